/** Commit on real QEMUs: of lower images, of the active one, with each flag; and of shared images. */
import { existsSync } from 'node:fs';
import { link, mkdir, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, Job_State, JobKind, OnReady } from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf, hashOf, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { imageInfo, run, type Style } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const {
  COMMIT_FLAG_SHALLOW: SHALLOW,
  COMMIT_FLAG_DELETE: DELETE,
  COMMIT_FLAG_ACTIVE: ACTIVE,
  COMMIT_FLAG_RELATIVE: RELATIVE,
  COMMIT_FLAG_BANDWIDTH_BYTES: BANDWIDTH_BYTES,
} = CommitFlag;
const STYLES: readonly Style[] = ['blockdev', 'drive'];

describe.skipIf(needs('qemu'))('Commit', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  interface Commit {
    readonly what: string;
    /** Indices from the base up: base, snap1, snap2, snap3. */
    readonly top: number;
    readonly base?: number;
    readonly lands: number;
    readonly flags?: readonly CommitFlag[];
  }
  const COMMITS: readonly Commit[] = [
    { what: 'snap1 into the base', top: 1, base: 0, lands: 0 },
    { what: 'snap2 and snap1 into the base, which is not named', top: 2, lands: 0 },
    { what: 'snap2 into snap1, SHALLOW', top: 2, lands: 1, flags: [SHALLOW] },
    { what: 'snap2 and snap1 into the base, DELETE', top: 2, base: 0, lands: 0, flags: [DELETE] },
    { what: 'snap2 and snap1 into the base, RELATIVE', top: 2, base: 0, lands: 0, flags: [RELATIVE] },
  ];
  const CASES = STYLES.flatMap((style) => COMMITS.map((commit) => ({ style, ...commit })));

  test.each(CASES)('-$style: $what', async ({ style, top, base, lands, flags = [] }) => {
    await using machine = await site.machine({
      style,
      relative: true,
      formats: ['qcow2', 'qcow2', 'qcow2', 'qcow2'],
    });
    const { qemu, chain, guest, disk } = machine;
    const active = machine.top;
    const pathOf = (index: number) => present(chain[index]).path;
    await guest.write(0);
    const before = await Promise.all(chain.slice(0, lands).map(({ path }) => hashOf(path)));
    // Slow, so that it cannot end during a write: writes use the monitor's qemu-io, and QEMU 5.2 hangs for ever if one
    // comes at the very end of a commit.
    const job = await site.service.commit({
      disk,
      top: pathOf(top),
      base: base === undefined ? '' : pathOf(base),
      flags: [...flags, BANDWIDTH_BYTES],
      bandwidth: 65_536n,
    });
    expect(job).toMatchObject({
      kind: JobKind.JOB_KIND_COMMIT,
      destination: undefined,
      sourcePath: active.path,
      options: { basePath: pathOf(lands), topPath: pathOf(top), deleteCommitted: flags.includes(DELETE) },
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNSPECIFIED },
    });
    await guest.write(1);
    await site.service.setSpeed(job.id, 0n);
    const ended = await site.ended(job);
    const committed = chain.slice(lands + 1, top + 1).map(({ path }) => path);
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: active.path } });
    expect(ended.outcome?.safeToDelete.map(({ path }) => path).toSorted()).toEqual(
      flags.includes(DELETE) ? [] : committed.toSorted(),
    );
    for (const path of committed) expect(existsSync(path)).toBe(!flags.includes(DELETE));
    expectClean(await graphOf(qemu.admin), job.id);
    const left = [...chain.slice(0, lands + 1), ...chain.slice(top + 1)].map(({ path }) => path);
    const { disks } = await site.service.getDomain(disk.domain);
    expect(disks[0]?.chain.map(({ path }) => path)).toEqual(left.toReversed());
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(active.path, 'qcow2');
    const overlay = await imageInfo(pathOf(top + 1), 'qcow2');
    expect(overlay['backing-filename']).toBe(flags.includes(RELATIVE) ? basename(pathOf(lands)) : pathOf(lands));
    expect(await Promise.all(chain.slice(0, lands).map(({ path }) => hashOf(path)))).toEqual(before);
  });

  interface Active {
    readonly what: string;
    readonly flags?: readonly CommitFlag[];
    readonly lands: number;
    readonly named?: true;
    readonly pivot: boolean;
  }
  const ACTIVES: readonly Active[] = [
    { what: 'into the base, pivot', lands: 0, pivot: true },
    { what: 'into the base, abort', lands: 0, pivot: false },
    { what: 'into the image below, SHALLOW, pivot', lands: 1, flags: [SHALLOW], pivot: true },
    { what: 'named by its path, pivot, DELETE', lands: 0, flags: [DELETE], named: true, pivot: true },
    { what: 'abort, DELETE', lands: 0, flags: [DELETE], pivot: false },
  ];
  const ACTIVE_CASES = STYLES.flatMap((style) => ACTIVES.map((active) => ({ style, ...active })));

  test.each(ACTIVE_CASES)('-$style: the active image $what', async ({ style, flags = [], lands, named, pivot }) => {
    await using machine = await site.machine({ style, relative: true });
    const { qemu, chain, guest, disk, top } = machine;
    const base = present(chain[lands]);
    await guest.write(0);
    const job = await site.service.commit({ disk, top: named ? top.path : '', flags: [ACTIVE, ...flags] });
    expect(job).toMatchObject({
      kind: JobKind.JOB_KIND_ACTIVE_COMMIT,
      destination: undefined,
      options: { basePath: base.path, topPath: top.path },
    });
    expect(await refused(site.service.commit({ disk, flags: [ACTIVE] }))).toMatchObject({
      reason: 'BLOCK_COPY_ACTIVE',
    });
    await site.service.until(job.id, 'STATE_READY');
    await guest.write(1);
    const ended = await site.service.abort({ job: byId(job.id), pivot });
    const committed = chain.slice(lands + 1).map(({ path }) => path);
    const isDeleted = pivot && flags.includes(DELETE);
    expect(ended).toMatchObject({
      state: pivot ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED,
      outcome: {
        guestWritesTo: pivot ? base.path : top.path,
        nextStartPath: pivot ? base.path : top.path,
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      },
    });
    expect(ended.outcome?.safeToDelete.map(({ path }) => path).toSorted()).toEqual(
      pivot && !isDeleted ? committed.toSorted() : [],
    );
    for (const path of committed) expect(existsSync(path)).toBe(!isDeleted);
    expectClean(await graphOf(qemu.admin), job.id);
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(pivot ? base.path : top.path, 'qcow2');
  });

  test('an active commit into a raw base that is smaller', async () => {
    await using machine = await site.machine({ formats: ['raw', 'qcow2'], sizeBytes: 2 * MIB });
    const { guest, disk, chain, qemu } = machine;
    await guest.write(0);
    const job = await site.service.commit({ disk, flags: [ACTIVE] });
    await site.service.until(job.id, 'STATE_READY');
    const ended = await site.service.abort({ job: byId(job.id), pivot: true });
    expect(ended.state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(present(chain[0]).path, 'raw');
  });

  test('invalid commits are refused, and change nothing', async () => {
    await using machine = await site.machine();
    const { disk, chain, qemu, top } = machine;
    const [base, snap1] = [present(chain[0]).path, present(chain[1]).path];
    const before = await graphOf(qemu.admin);
    const reason = async (request: { top?: string; base?: string; flags?: CommitFlag[] }) =>
      (await refused(site.service.commit({ disk, ...request }))).reason;
    expect(await reason({})).toBe('FIELD_INVALID');
    expect(await reason({ top: top.path })).toBe('FIELD_INVALID');
    expect(await reason({ top: 'disk0[0]' })).toBe('FIELD_INVALID');
    expect(await reason({ top: snap1, flags: [ACTIVE] })).toBe('FIELD_INVALID');
    expect(await reason({ top: '/nosuch.img' })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ top: snap1, base: '/nosuch.img' })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ top: base })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ top: snap1, base: snap1 })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ top: snap1, base: top.path })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ base, flags: [ACTIVE, SHALLOW] })).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason({ top: snap1, flags: [RELATIVE] })).toBe('RELATIVE_UNSUPPORTED');
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  describe('an image that others read', () => {
    const NAMES = {
      'its own name': async (path: string) => await Promise.resolve(path),
      'a symbolic link': async (path: string) => {
        const name = join(dirname(path), 'link.qcow2');
        await symlink(path, name);
        return name;
      },
      'a hard link': async (path: string) => {
        const name = join(dirname(path), 'hard.qcow2');
        await link(path, name);
        return name;
      },
    };

    test.each(Object.entries(NAMES))(
      'by %s: nothing is committed into it, and copies continue',
      async (_name, nameIt) => {
        await using machine = await site.machine();
        const { disk, chain, qemu, guest, dir, top } = machine;
        const base = present(chain[0]).path;
        const other = join(dir, 'other.qcow2');
        await run('qemu-img', ['create', '-qfqcow2', '-Fqcow2', '-b', await nameIt(base), other]);
        await using sharer = await site.machine({ formats: ['qcow2'], sizeBytes: 4 * MIB, pattern: false });
        const shared = { driver: 'qcow2', 'node-name': 'other', file: { driver: 'file', filename: other } };
        await sharer.qemu.admin.execute('blockdev-add', shared);
        const before = [await graphOf(qemu.admin), await hashOf(base)];
        for (const request of [{ top: 'disk0[1]' }, { flags: [ACTIVE] }, { top: 'disk0[1]', flags: [DELETE] }]) {
          expect(await refused(site.service.commit({ disk, ...request }))).toMatchObject({
            reason: 'DESTINATION_IN_USE',
            // The service finds it: QEMU's own locks would find it too late, and only among programs that lock.
            message: expect.stringMatching(/: node \S+ of domain \S+$/) as string,
          });
        }
        expect([await graphOf(qemu.admin), await hashOf(base)]).toEqual(before);
        // Data that is only read may be read by all.
        const copy = await site.service.startCopy({
          disk,
          destination: { target: { $case: 'file', value: join(dir, 'copy') } },
          onReady: OnReady.ON_READY_PIVOT,
        });
        expect((await site.ended(copy)).state).toBe(Job_State.STATE_COMPLETED);
        await qemu[Symbol.asyncDispose]();
        await guest.expectIn(join(dir, 'copy'), 'qcow2');
        expect(existsSync(top.path)).toBe(true);
      },
    );
  });

  test('that its own QEMU has locked, beside another VM: is committed into', async () => {
    await using machine = await site.machine();
    await using _other = await site.machine();
    const job = await site.ended(await site.service.commit({ disk: machine.disk, top: 'disk0[1]', flags: [DELETE] }));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    expect(existsSync(present(machine.chain[1]).path)).toBe(false);
  });

  test('that is below an overlay of the same QEMU, without a device: nothing is committed into it', async () => {
    await using machine = await site.machine();
    const { disk, chain, qemu, dir } = machine;
    const base = present(chain[0]).path;
    const [name, other] = ['other', join(dir, 'other.qcow2')];
    await run('qemu-img', ['create', '-qfqcow2', '-Fqcow2', '-b', base, other]);
    const { disks } = await site.service.getDomain(disk.domain);
    const backing = present(disks[0]?.chain.find(({ path }) => path === base)).nodeName;
    const file = { driver: 'file', filename: other };
    await qemu.admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': name, file, backing });
    const before = await graphOf(qemu.admin);
    expect(await refused(site.service.commit({ disk, flags: [ACTIVE] }))).toMatchObject({
      reason: 'DESTINATION_IN_USE',
      metadata: { path: base },
      message: expect.stringContaining(`node ${name} of domain ${disk.domain} reads it`) as string,
    });
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  test('an image that another VM has opened meanwhile is not deleted', async () => {
    await using machine = await site.machine({ relative: true });
    const { disk, chain, dir } = machine;
    const [snap1] = [present(chain[1])];
    await using sharer = await site.machine({ formats: ['qcow2'], sizeBytes: 4 * MIB, pattern: false });
    const job = await site.service.commit({ disk, flags: [ACTIVE, DELETE] });
    await site.service.until(job.id, 'STATE_READY');
    await mkdir(join(dir, 'elsewhere'));
    const name = join(dir, 'elsewhere', 'hard.qcow2');
    await link(snap1.path, name);
    const reader = { driver: 'qcow2', 'node-name': 'reader', 'read-only': true, backing: null };
    await sharer.qemu.admin.execute('blockdev-add', {
      ...reader,
      // QEMU's own locks would refuse it here; on NFS, or after a mistake, nothing does.
      file: { driver: 'file', filename: name, locking: 'off', 'read-only': true },
    });
    const ended = await site.service.abort({ job: byId(job.id), pivot: true });
    expect(ended.state).toBe(Job_State.STATE_COMPLETED);
    expect(existsSync(snap1.path)).toBe(true);
    expect(existsSync(present(chain[2]).path)).toBe(false);
  });

  test('a commit that is aborted leaves the chain correct, and can be started again', async () => {
    await using machine = await site.machine();
    const { disk, guest, top, qemu } = machine;
    const job = await site.service.commit({ disk, top: 'disk0[1]', flags: [BANDWIDTH_BYTES], bandwidth: 65_536n });
    await guest.write(0);
    expect((await site.service.abort({ job: byId(job.id) })).state).toBe(Job_State.STATE_CANCELLED);
    const again = await site.ended(await site.service.commit({ disk, top: 'disk0[1]' }));
    expect(again.state).toBe(Job_State.STATE_COMPLETED);
    await guest.write(1);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(top.path, 'qcow2');
  });

  test('a chain of depth 10: committed in two parts, pulled, copied', async () => {
    const formats = Array.from({ length: 10 }, () => 'qcow2' as const);
    await using machine = await site.machine({ formats, relative: true });
    const { disk, guest, top, qemu, chain, dir } = machine;
    expect((await site.ended(await site.service.commit({ disk, top: 'disk0[6]' }))).state).toBe(
      Job_State.STATE_COMPLETED,
    );
    await guest.write(0);
    const base = present(chain[0]).path;
    expect((await site.ended(await site.service.rebase({ disk, base }))).state).toBe(Job_State.STATE_COMPLETED);
    await guest.write(1);
    const { disks } = await site.service.getDomain(disk.domain);
    expect(disks[0]?.chain.map(({ path }) => path)).toEqual([top.path, base]);
    const copy = await site.service.startCopy({
      disk,
      destination: { target: { $case: 'file', value: join(dir, 'copy') } },
      onReady: OnReady.ON_READY_PIVOT,
    });
    expect((await site.ended(copy)).state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(join(dir, 'copy'), 'qcow2');
  });
});
