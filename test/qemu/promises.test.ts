/** Promises of the contract's comments that no other suite looks at: one service, and few QEMUs. */
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  CommitFlag,
  type ReclaimResponse,
  StartCopyRequest,
  WatchJobRequest,
  type WatchJobResponse,
  WatchJobsRequest,
  type WatchJobsResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { Schemas } from '../../src/agent/qemu/schemas.ts';
import { graphOf, listing, monitorIn, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { startWith } from '../support/real-qemu/any-disk.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, run, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { copyTo, TestAgent } from '../support/service/agent.ts';
import { byId, call, refused } from '../support/service/caller.ts';

let site: Site;

function copyOf({ disk, dir }: Machine, name: string, bandwidthBytesPerSecond = 0n) {
  const target = { $case: 'file', value: join(dir, name) } as const;
  return StartCopyRequest.fromPartial({ disk, destination: { target }, bandwidthBytesPerSecond });
}

const fileAt = (filename: string | undefined) => ({ driver: 'file', filename: present(filename) });

/** All messages of a watch of all jobs, up to `complete`; it is closed then. */
async function watchedOnce(request: Parameters<typeof WatchJobsRequest.fromPartial>[0]): Promise<WatchJobsResponse[]> {
  const stream = site.service.blockJobs.watchJobs(WatchJobsRequest.fromPartial(request));
  const messages: WatchJobsResponse[] = [];
  try {
    for await (const message of stream as AsyncIterable<WatchJobsResponse>) {
      messages.push(message);
      if (message.about?.$case === 'complete') return messages;
    }
    throw new Error('the watch has ended');
  } finally {
    stream.on('error', () => undefined).cancel();
  }
}

describe.skipIf(needs('qemu'))('as the contract says,', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  test('a read changes nothing, and says the same when it is repeated', async () => {
    const { service } = site;
    await using machine = await site.machine();
    const { disk, qemu, dir } = machine;
    const past = await service.startCopy(copyOf(machine, 'past'));
    await service.until(past.id, 'STATE_READY');
    await service.abort({ job: byId(past.id), force: true });
    const { id } = await service.startCopy(copyOf(machine, 'copy'));
    await service.until(id, 'STATE_READY');
    const state = async () => [
      await graphOf(qemu.admin),
      await qemu.admin.execute('query-status'),
      await listing(dir),
      await listing(join(site.stateFolder, 'jobs')),
    ];
    const events = async (job: string) => {
      const seen: string[] = [];
      for await (const { kind, revision } of service.watch(job, 0)) {
        seen.push(`${kind} ${revision}`);
        if (job === id && seen.length === 3) break;
      }
      return seen;
    };
    const reads = async () => ({
      info: await service.getInfo(past.id),
      state: (await service.getInfo(id)).state,
      jobs: (await service.listJobs({ domain: disk.domain })).jobs.map((job) => `${job.id} ${job.revision}`),
      leftovers: await service.listLeftovers(disk.domain),
      domains: (await service.listDomains()).map(({ name }) => name),
      chain: (await service.getDomain(disk.domain)).disks[0]?.chain,
      operation: (await service.checkOperation({ domain: disk.domain, operation: Operation.OPERATION_SAVE }))?.message,
      past: await events(past.id),
      present: await events(id),
      all: (await watchedOnce({ domain: disk.domain })).map(({ about }) => about?.$case),
    });
    const before = await state();
    const first = await reads();
    expect(first).toMatchObject({ state: Job_State.STATE_READY, leftovers: [{ jobId: past.id }] });
    expect(await reads()).toEqual(first);
    expect(await state()).toEqual(before);
    await service.abort({ job: byId(id), force: true });
  });

  test('a single host has no unreachable hosts', async () => {
    expect((await site.service.listJobs()).unreachableHosts).toEqual([]);
    const left = await call<{ unreachableHosts: string[] }>(site.service.blockJobs, 'listLeftovers', {
      domain: '',
      pageSize: 0,
      pageToken: '',
    });
    expect(left.unreachableHosts).toEqual([]);
  });

  test('a repetition without an id is a second job, and a watch by the disk stays with the first', async () => {
    const { service } = site;
    await using machine = await site.machine();
    const request = copyOf(machine, 'copy', 65_536n);
    const first = await service.startCopy(request);
    const stream = service.blockJobs.watchJob(
      WatchJobRequest.fromPartial({ job: { name: { $case: 'disk', value: machine.disk } } }),
    );
    const seen: string[] = [];
    stream.on('data', ({ event }: WatchJobResponse) => seen.push(present(event?.job).id));
    const ended = once(stream, 'end');
    await once(stream, 'data');
    expect(await refused(service.startCopy(request))).toMatchObject({ reason: 'BLOCK_COPY_ACTIVE' });
    await service.abort({ job: byId(first.id) });
    const second = await service.startCopy(request);
    expect(second.id).not.toBe(first.id);
    await within(20_000, 'the end of the watch', ended);
    expect(new Set(seen)).toEqual(new Set([first.id]));
    expect((await service.abort({ job: byId(second.id) })).state).toBe(Job_State.STATE_CANCELLED);
  });

  test('the end of a watch of all jobs, or its deadline, touches no job; its domain need not exist', async () => {
    const { service } = site;
    await using machine = await site.machine();
    const { id } = await service.startCopy(copyOf(machine, 'copy', 65_536n));
    const graph = await graphOf(machine.qemu.admin);
    const [snapshot, event] = await watchedOnce({ domain: machine.disk.domain });
    const about = { host: 'host-under-test', compacted: false, text: '' };
    expect(snapshot?.about).toEqual({ $case: 'snapshot', value: about });
    expect(event?.about).toMatchObject({ $case: 'event', value: { job: { id } } });
    expect((await watchedOnce({ domain: 'nobody' })).map((one) => one.about?.$case)).toEqual([
      'snapshot',
      'synced',
      'complete',
    ]);
    const late = service.blockJobs.watchJobs(WatchJobsRequest.fromPartial({}), { deadline: Date.now() + 300 });
    await once(late.resume(), 'error');
    expect((await service.getInfo(id)).state).toBe(Job_State.STATE_RUNNING);
    expect(await graphOf(machine.qemu.admin)).toEqual(graph);
    await service.abort({ job: byId(id) });
  });

  test('a Reclaim keeps no id: with another body it is another action', async () => {
    await using machine = await site.machine();
    const { id } = await site.service.startCopy(copyOf(machine, 'copy'));
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id), force: true });
    const reclaim = async (apply: boolean) => {
      const request = { leftoverIds: [`file:${id}`], apply, requestId: 'once' };
      const { results } = await call<ReclaimResponse>(site.service.blockJobs, 'reclaim', request);
      return [results.map(({ reclaimed }) => reclaimed), (await readdir(machine.dir)).includes('copy')];
    };
    expect(await reclaim(false)).toEqual([[true], true]);
    expect(await reclaim(true)).toEqual([[true], false]);
    expect(await reclaim(true)).toEqual([[true], false]);
  });

  test('a commit deletes nothing outside the allowed folders, and fills no image of another disk', async () => {
    const { service, sockets } = site;
    await using outside = await testDir('bj-outside-', '/var/tmp');
    const chain = await makeChain(outside.path, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: MIB });
    const [base, , top] = chain.map(({ path }) => path);
    const other = join(outside.path, 'other');
    await run('qemu-img', ['create', '-qfqcow2', '-Fqcow2', '-b', present(base), other]);
    const nodes = [
      { 'node-name': 'base', file: fileAt(base), 'read-only': true },
      { 'node-name': 'middle', file: fileAt(chain[1]?.path), backing: 'base', 'read-only': true },
      { 'node-name': 'top', file: fileAt(top), backing: 'middle' },
      { 'node-name': 'other', file: fileAt(other), backing: 'base' },
    ];
    const name = `m${outside.path.slice(-6)}`;
    await using qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [],
      extraArgs: [
        ...monitorIn(sockets, name),
        ...nodes.flatMap((node) => ['-blockdev', JSON.stringify({ driver: 'qcow2', ...node })]),
        '-device',
        'virtio-blk-pci,id=disk0,drive=top',
        '-device',
        'virtio-blk-pci,id=disk1,drive=other',
      ],
    });
    await service.domainUp(name);
    const before = await graphOf(qemu.admin);
    const disk = { domain: name, disk: 'disk0' };
    const flags = [CommitFlag.COMMIT_FLAG_SHALLOW, CommitFlag.COMMIT_FLAG_ACTIVE, CommitFlag.COMMIT_FLAG_DELETE];
    expect(await refused(service.commit({ disk, flags }))).toMatchObject({
      reason: 'DESTINATION_NOT_ALLOWED',
      metadata: { path: top },
    });
    expect(await refused(service.commit({ disk, top: 'disk0[1]' }))).toMatchObject({
      reason: 'DESTINATION_IN_USE',
      metadata: { path: base },
      message: expect.stringContaining('node other') as string,
    });
    expect(await graphOf(qemu.admin)).toEqual(before);
    expect((await stat(present(top))).isFile()).toBe(true);
  });

  test('a comparison is refused where QEMU has no driver quorum', async () => {
    const ask = Reflect.get<Schemas, 'require'>(Schemas.prototype, 'require');
    vi.spyOn(Schemas.prototype, 'require').mockImplementation(async function (this: Schemas, ...of) {
      const schema = await ask.apply(this, of);
      return new Map([...present(schema)].filter(([name]) => name !== 'blockdev-add quorum'));
    });
    onTestFinished(() => {
      vi.restoreAllMocks();
    });
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['qcow2', 'qcow2'], sizeBytes: MIB });
    const there = join(dir.path, 'there');
    await run('qemu-img', ['convert', '-Oqcow2', present(chain[0]).path, there]);
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    await using qemu = await startQemu({ style: 'blockdev', name: 'vm', disks });
    await using agent = await TestAgent.start({ dir: dir.path, qmp: { vm: qemu.qmpPath }, allow: [dir.path] });
    const copy = copyTo(there, { disk: { domain: 'vm', disk: 'vd0' }, shallow: true, reuseExternal: true });
    const before = await graphOf(qemu.admin);
    await expect(agent.startCopy({ ...copy, verifyReused: true })).rejects.toMatchObject({
      reason: 'QEMU_TOO_OLD',
      message: expect.stringContaining('driver quorum') as string,
    });
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  test('a commit fills only raw and qcow2', async () => {
    await using dir = await testDir();
    const [base, middle, top] = ['base', 'middle', 'top'].map((name) => join(dir.path, name));
    await run('qemu-img', ['create', '-qfqed', present(base), String(MIB)]);
    await run('qemu-img', ['create', '-qfqcow2', '-Fqed', '-b', present(base), present(middle)]);
    await run('qemu-img', ['create', '-qfqcow2', '-Fqcow2', '-b', present(middle), present(top)]);
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, 'blockdev', {
      name,
      nodes: [
        { driver: 'qed', 'node-name': 'base', file: fileAt(base), 'read-only': true },
        { driver: 'qcow2', 'node-name': 'middle', file: fileAt(middle), backing: 'base', 'read-only': true },
        { driver: 'qcow2', file: fileAt(top), backing: 'middle' },
      ],
      drive: '',
    });
    const before = await graphOf(qemu.admin);
    const disk = { domain: name, disk: 'disk0' };
    expect(await refused(site.service.commit({ disk, top: 'disk0[1]' }))).toMatchObject({
      reason: 'FORMAT_UNKNOWN',
      metadata: { path: base, format: 'qed' },
    });
    expect(await graphOf(qemu.admin)).toEqual(before);
  });
});
