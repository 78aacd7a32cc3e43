/** A service that does not see QEMU's process in /proc, or sees another one: each line of docs/paths.md about it. */
import { readlinkSync } from 'node:fs';
import { access, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, Job_State } from '../../generated/blockjob/v1/job.ts';
import { FIRST_NAMESPACE } from '../../src/agent/host/sight.ts';
import { encodeLine } from '../../src/agent/journal/journal.ts';
import type { EntryBody, JournalEntry } from '../../src/core/job/journal-entry.ts';
import type { QemuProcess } from '../../src/core/job/qemu-identity.ts';
import { eventually, graphOf, monitorIn, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { metCopy } from '../support/real-qemu/met-copy.ts';
import { type Admin, startQemu, within } from '../support/real-qemu/qemu.ts';
import { canSeeLess, HIDEPID, OTHER_UID, PID_NAMESPACE, seeAs } from '../support/real-qemu/sights.ts';
import { byId, refused } from '../support/service/caller.ts';

async function entriesOf(journal: string): Promise<readonly JournalEntry[]> {
  const lines = (await readFile(journal, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line.slice(9)) as JournalEntry);
}

async function write(journal: string, entries: readonly JournalEntry[]): Promise<void> {
  await writeFile(journal, entries.map(encodeLine).join(''));
}

/** The folder of QEMU's socket, and one that nobody searches. */
function socketsOf(site: Site, { dir, disk }: Machine) {
  return [join(site.sockets, `${disk.domain}.sock`), join(dir, 'away.sock')] as const;
}

async function takeSocketAway(site: Site, machine: Machine): Promise<void> {
  const [here, away] = socketsOf(site, machine);
  await rename(here, away);
}

async function giveSocketBack(site: Site, machine: Machine): Promise<void> {
  const [here, away] = socketsOf(site, machine);
  await rename(away, here);
}

/** As after the death of a service right after these entries. */
async function goOnWith(journal: string, ...bodies: readonly EntryBody[]): Promise<void> {
  const entries = await entriesOf(journal);
  const last = entries.at(-1)?.revision ?? 0;
  const time = new Date().toISOString();
  const more = bodies.map((body, index): JournalEntry => ({ ...body, revision: last + 1 + index, time }));
  await write(journal, [...entries, ...more]);
}

/** A journal as of another boot, or of a service that did not record the place of QEMU. */
async function withProcess(journal: string, change: (process: QemuProcess) => QemuProcess): Promise<void> {
  const entries = await entriesOf(journal);
  const changed = entries.map((entry) =>
    entry.entry === 'accepted' && entry.process !== undefined ? { ...entry, process: change(entry.process) } : entry,
  );
  await write(journal, changed);
}

const OLDER = ({ pid, startTime }: QemuProcess): QemuProcess => ({ pid, startTime });
const REBOOTED = (process: QemuProcess): QemuProcess => ({
  ...process,
  bootId: '00000000-0000-4000-8000-000000000000',
});

/** Not in a container. */
const SEES_THE_HOST = readlinkSync('/proc/self/ns/pid') === FIRST_NAMESPACE;
const SIGHTS = [PID_NAMESPACE, HIDEPID, OTHER_UID];

async function readyCommit(site: Site, { disk }: Machine): Promise<string> {
  const { id } = await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
  await site.service.until(id, 'STATE_READY');
  return id;
}

/** Another client completes it; its result can be read. */
async function completedByAnother(admin: Admin, id: string): Promise<void> {
  await admin.execute('job-complete', { id });
  await eventually('the commit concludes', async () =>
    (await graphOf(admin)).jobs.includes(`${id} commit concluded`) ? true : undefined,
  );
}

/** Another client does the last step of a commit of lower images, and dismisses the job. */
async function finishedByAnother(admin: Admin, id: string): Promise<void> {
  const until = async (status: string) =>
    await eventually(`the commit is ${status}`, async () =>
      (await graphOf(admin)).jobs.includes(`${id} commit ${status}`) ? true : undefined,
    );
  await until('pending');
  await admin.execute('job-finalize', { id });
  await until('concluded');
  await admin.execute('job-dismiss', { id });
}

/** Another client completes an active commit, and dismisses it, before a service begins that sees no process. */
async function dismissedBetween(site: Site, machine: Machine, journal: (path: string) => Promise<void>) {
  const { admin } = machine.qemu;
  const id = await readyCommit(site, machine);
  await site.restart('SIGKILL', machine.disk.domain, async () => {
    await completedByAnother(admin, id);
    await admin.execute('job-dismiss', { id });
    await journal(join(site.stateFolder, 'jobs', `${id}.jsonl`));
    await seeAs(PID_NAMESPACE, site, machine);
  });
  return await site.ended(await site.service.getInfo(id));
}

describe.skipIf(needs('qemu') || !canSeeLess())('a service that is started again where it has', () => {
  test.each(SIGHTS)('$name: continues a copy, pivots it, and sees its guest run', async (sight) => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { domain } = machine.disk;
    await site.restart('SIGKILL', domain, async () => await seeAs(sight, site, machine));
    // It does not report the process, because it does not know it.
    expect((await site.service.getDomain(domain)).qemuPid).toBe(0);
    expect(await site.service.getInfo(job.id)).toMatchObject({ state: Job_State.STATE_READY, error: undefined });
    await machine.guest.write(2);
    expect(await site.service.abort({ job: byId(job.id), pivot: true })).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: path },
    });
    expect(await site.service.listLeftovers(domain)).toEqual([]);
    // It does not know the owner of a QEMU's files: a new file is its own.
    const next = join(machine.dir, 'next');
    const another = await site.service.startCopy({
      disk: machine.disk,
      destination: { target: { $case: 'file', value: next } },
    });
    expect((await stat(next)).uid).toBe(sight.uid ?? process.getuid?.());
    await site.service.abort({ job: byId(another.id) });
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each(SIGHTS)('$name: resumes a guest that was held, and continues its pivot', async (sight) => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { admin } = machine.qemu;
    await site.restart('SIGKILL', machine.disk.domain, async () => {
      const held: EntryBody = { entry: 'guest-held', because: 'a test' };
      const journal = join(site.stateFolder, 'jobs', `${job.id}.jsonl`);
      await goOnWith(journal, { entry: 'pivot-requested', pauseGuest: 'ALWAYS' }, held);
      await admin.execute('stop');
      await seeAs(sight, site, machine);
    });
    expect(await it.ended()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    await eventually('the guest runs', async () =>
      (await admin.execute<{ status: string }>('query-status')).status === 'running' ? true : undefined,
    );
  });

  test(`${PID_NAMESPACE.name}: closes the nodes of a commit, though QEMU has neither its job nor a node with its name`, async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const { admin } = machine.qemu;
    const [base] = machine.chain;
    const id = await readyCommit(site, machine);
    await site.restart('SIGKILL', machine.disk.domain, async () => {
      await completedByAnother(admin, id);
      const concluded: EntryBody = {
        entry: 'concluded',
        how: 'CONCLUDED',
        qemuError: undefined,
        deviceOn: 'DESTINATION',
        devicePath: base?.path,
      };
      const dismissing: EntryBody = { entry: 'step-started', step: 'dismiss-job' };
      const journal = join(site.stateFolder, 'jobs', `${id}.jsonl`);
      await goOnWith(journal, { entry: 'pivot-requested', pauseGuest: 'NEVER' }, concluded, dismissing);
      await admin.execute('job-dismiss', { id });
      await seeAs(PID_NAMESPACE, site, machine);
    });
    const job = await within(
      20_000,
      'the end of the job',
      site.ended(present((await site.service.listJobs()).jobs[0])),
    );
    expect(job).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: base?.path } });
    const { nodes } = await graphOf(admin);
    expect(nodes.filter((node) => machine.chain.slice(1).some(({ path }) => node.endsWith(path)))).toEqual([]);
  });

  // It recorded no process. A service that sees everything learns nothing from that; one like it sees no more.
  test.each([
    ['one that sees all', undefined],
    ['another one', PID_NAMESPACE],
  ] as const)(
    `${PID_NAMESPACE.name}, followed by %s: ends a commit that another client has finished and dismissed`,
    async (_by, next) => {
      await using site = await Site.open();
      await using machine = await site.machine();
      const { admin } = machine.qemu;
      const { disk, chain } = machine;
      await site.restart('SIGKILL', disk.domain, async () => await seeAs(PID_NAMESPACE, site, machine));
      const [base, committed] = [present(chain[0]).path, present(chain[1]).path];
      const { id } = await site.service.commit({ disk, top: committed, base, flags: [], bandwidth: 1n });
      await site.restart('SIGKILL', disk.domain, async () => {
        await admin.execute('block-job-set-speed', { device: id, speed: 0 });
        await finishedByAnother(admin, id);
        if (next === undefined) delete site.under;
      });
      const job = await site.ended(await site.service.getInfo(id));
      expect(job).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: machine.top.path } });
      expect(job.outcome?.evidence.map(({ text }) => text)).not.toContain(
        'the QEMU process that ran the job has ended',
      );
      const { nodes } = await graphOf(admin);
      expect(nodes.filter((node) => node.endsWith(committed))).toEqual([]);
    },
  );

  test(`${PID_NAMESPACE.name}: knows the QEMU of a commit that another client has completed, and dismissed, by its monitor`, async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const [base, ...above] = machine.chain.map(({ path }) => path);
    const job = await dismissedBetween(site, machine, async () => await Promise.resolve());
    expect(job).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: base, nextStartPath: base },
    });
    expect(job.outcome?.safeToDelete.map(({ path }) => path).toSorted()).toEqual(above.toSorted());
    const { nodes } = await graphOf(machine.qemu.admin);
    expect(nodes.filter((node) => above.some((path) => node.endsWith(path)))).toEqual([]);
  });

  test(`${PID_NAMESPACE.name}: claims nothing about such a commit if an older journal does not describe the monitor`, async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const [base] = machine.chain;
    const job = await dismissedBetween(site, machine, async (journal) => {
      const entries = await entriesOf(journal);
      await write(
        journal,
        entries.map((entry) => {
          if (entry.entry !== 'accepted') return entry;
          const { monitor: _monitor, ...older } = entry;
          return older;
        }),
      );
    });
    // The guest is on the base: the image above it does not match any point in time of the disk, and must not be
    // started.
    expect(job).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { guestWritesTo: base?.path, nextStartPath: base?.path, safeToDelete: [] },
    });
    expect(job.outcome?.evidence.map(({ text }) => text)).not.toContain('the QEMU process that ran the job has ended');
  });

  test(`${PID_NAMESPACE.name}: takes a QEMU that was started again on the base for another one, though all its names are the same`, async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const { name, uuid, admin } = machine.qemu;
    const [base] = machine.chain;
    const on = { id: 'disk0', bus: 'virtio-blk', chain: [present(base)] } as const;
    const extraArgs = monitorIn(site.sockets, machine.disk.domain);
    await using held = new AsyncDisposableStack();
    const id = await readyCommit(site, machine);
    await site.restart('SIGKILL', machine.disk.domain, async () => {
      await completedByAnother(admin, id);
      process.kill(machine.qemu.pid, 'SIGKILL');
      await machine.qemu.exited;
      held.use(await startQemu({ style: 'blockdev', name, uuid, disks: [on], extraArgs }));
      await seeAs(PID_NAMESPACE, site, machine);
    });
    expect(await site.ended(await site.service.getInfo(id))).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { safeToDelete: [] },
    });
  });

  test(`${PID_NAMESPACE.name}: undoes a start of which QEMU has nothing, and does not say that QEMU has ended`, async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const { admin } = machine.qemu;
    const path = join(machine.dir, 'copy');
    const request = {
      disk: machine.disk,
      destination: { target: { $case: 'file', value: path } },
      bandwidthBytesPerSecond: 65_536n,
      requestId: 'one',
    } as const;
    const { id } = await site.service.startCopy(request);
    await site.restart('SIGKILL', undefined, async () => {
      await admin.execute('job-cancel', { id });
      await eventually('the copy is cancelled', async () =>
        (await graphOf(admin)).jobs.includes(`${id} mirror concluded`) ? true : undefined,
      );
      await admin.execute('job-dismiss', { id });
      const nodes = (await graphOf(admin)).nodes.map((node) => node.split(' ')[0] ?? '');
      // Another node that uses it has the shorter name.
      for (const node of nodes.filter((one) => one.startsWith(id)))
        await admin.execute('blockdev-del', { 'node-name': node });
      const journal = join(site.stateFolder, 'jobs', `${id}.jsonl`);
      const entries = await entriesOf(journal);
      const made = entries.findIndex(({ entry }) => entry === 'step-done');
      await write(journal, entries.slice(0, made + 1));
      await seeAs(PID_NAMESPACE, site, machine);
      await takeSocketAway(site, machine);
    });
    // The repeated request comes while the job still exists: after its undo, the same request would start a new one.
    const again = refused(site.service.startCopy(request));
    expect((await site.service.getInfo(id)).state).toBe(Job_State.STATE_STARTING);
    await giveSocketBack(site, machine);
    expect(await again).toMatchObject({
      reason: 'JOB_LOST',
      message: expect.stringContaining('it was gone before its end was seen') as string,
    });
    await expect(access(path)).rejects.toThrow('ENOENT');
  });

  test(`${PID_NAMESPACE.name}, and its QEMU ends: the job waits, until the VM is back without it`, async () => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job } = it;
    const { name, uuid } = machine.qemu;
    const { domain } = machine.disk;
    await site.restart('SIGKILL', undefined, async () => {
      const journal = join(site.stateFolder, 'jobs', `${job.id}.jsonl`);
      await goOnWith(journal, { entry: 'pivot-requested', pauseGuest: 'NEVER' });
      await seeAs(PID_NAMESPACE, site, machine);
      process.kill(machine.qemu.pid, 'SIGKILL');
      await machine.qemu.exited;
    });
    // It has looked, and found no QEMU.
    await eventually('the socket is found dead', async () =>
      (await site.service.getInfo(job.id)).state === Job_State.STATE_PIVOTING ? true : undefined,
    );
    expect((await site.service.getInfo(job.id)).endTime).toBeUndefined();
    const disks = [{ id: 'disk0', bus: 'virtio-blk', chain: machine.chain }] as const;
    await using _again = await startQemu({
      style: 'blockdev',
      name,
      uuid,
      disks,
      extraArgs: monitorIn(site.sockets, domain),
    });
    expect(await it.ended()).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN, safeToDelete: [] },
    });
  });
});

describe.skipIf(needs('qemu'))('a service that is started again', () => {
  test.each([
    ['on the journals of an older one', OLDER],
    ['after a reboot of the host', REBOOTED],
  ] as const)('%s, and its QEMU has ended: says so if that can be known', async (_when, change) => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job } = it;
    await site.restart('SIGTERM', undefined, async () => {
      await withProcess(join(site.stateFolder, 'jobs', `${job.id}.jsonl`), change);
      process.kill(machine.qemu.pid, 'SIGKILL');
      await machine.qemu.exited;
    });
    const isKnown = change !== OLDER || SEES_THE_HOST;
    const { state } = isKnown ? await it.ended() : await site.service.getInfo(job.id);
    expect(state).toBe(isKnown ? Job_State.STATE_FAILED : Job_State.STATE_READY);
  });

  test('on the journals of an older one, and its QEMU runs: continues its jobs', async () => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job } = it;
    await site.restart('SIGTERM', machine.disk.domain, async () => {
      await withProcess(join(site.stateFolder, 'jobs', `${job.id}.jsonl`), OLDER);
    });
    expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_READY);
    const ended = await site.service.abort({ job: byId(job.id), pivot: true });
    expect(ended.state).toBe(Job_State.STATE_COMPLETED);
  });

  test('and its QEMU does not answer: by force its jobs are given up, and cancelled when QEMU is back', async () => {
    await using site = await Site.open();
    await using starting = await metCopy(site, 'RUNNING');
    await using ready = await metCopy(site, 'READY');
    await using pivoted = await metCopy(site, 'READY');
    const journalOf = ({ job }: typeof ready) => join(site.stateFolder, 'jobs', `${job.id}.jsonl`);
    const all = [starting, ready, pivoted];
    await site.restart('SIGKILL', undefined, async () => {
      const entries = await entriesOf(journalOf(starting));
      const runs = entries.findIndex(({ entry }) => entry === 'running');
      await write(journalOf(starting), entries.slice(0, runs));
      await pivoted.execute(['job-complete', { id: pivoted.job.id }]);
      await pivoted.concluded();
      await goOnWith(
        journalOf(pivoted),
        { entry: 'pivot-requested', pauseGuest: 'NEVER' },
        {
          entry: 'concluded',
          how: 'CONCLUDED',
          qemuError: undefined,
          deviceOn: 'DESTINATION',
          devicePath: pivoted.path,
        },
      );
      for (const one of all) await takeSocketAway(site, one.machine);
    });
    const abort = async ({ job }: typeof ready) =>
      await site.service.abort({ job: byId(job.id), force: true, requestId: `end-${job.id}` });
    const ended = await Promise.all(all.map(abort));
    const unknown = {
      state: Job_State.STATE_UNRESOLVED,
      outcome: {
        guestWritesTo: '',
        destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN,
        safeToDelete: [],
      },
    };
    expect(ended).toMatchObject([
      unknown,
      unknown,
      { state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: pivoted.path, safeToDelete: [] } },
    ]);
    expect(await Promise.all(all.map(abort))).toEqual(ended);
    for (const { path } of all) await access(path);
    for (const one of all) {
      const { domain } = one.machine.disk;
      await giveSocketBack(site, one.machine);
      await site.service.domainUp(domain);
      const left = (await site.service.listLeftovers(domain)).filter(({ id }) => id.startsWith('job:'));
      expect(left).toMatchObject([{ id: `job:${one.job.id}`, blockedBy: '' }]);
      await site.service.reclaim([`job:${one.job.id}`], true);
      const { jobs, devices } = await graphOf(one.machine.qemu.admin);
      expect(jobs).toEqual([]);
      expect(Object.values(devices).includes(one.job.id)).toBe(one === pivoted);
      await one.machine.guest.write(2);
    }
  });
});
