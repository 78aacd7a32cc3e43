/** A short image hides the blocks behind its end in lower images: when it is removed, the guest must not see them. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { hashOf } from '../support/checks.ts';
import { startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';

const GUEST = '/machine/peripheral/disk0/virtio-backend';
const LONGER = { reason: 'IMAGE_UNSUITABLE', metadata: { kind: 'LONGER' } };
const COMMITTED = CommitFlag.COMMIT_FLAG_ACTIVE;
let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

/** Base first: each is full of a byte of its own, with the given sizes. */
async function chainOf(dir: string, mib: readonly number[]) {
  const paths = mib.map((_, at) => join(dir, `${at}.qcow2`));
  for (const [at, path] of paths.entries()) {
    const below = at === 0 ? [] : ['-F', 'qcow2', '-b', paths[at - 1] ?? ''];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...below, path, `${mib[at]}M`]);
    if (at < paths.length - 1) {
      await run('qemu-io', ['-f', 'qcow2', '-c', `write -P ${0x11 + at} 0 ${mib[at]}M`, path]);
    }
  }
  const nodes = paths.map((filename, at) => ({
    driver: 'qcow2',
    'node-name': `n${at}`,
    file: { driver: 'file', filename, 'auto-read-only': true },
    backing: at === 0 ? null : `n${at - 1}`,
    'read-only': at < paths.length - 1,
  }));
  const name = `m${dir.slice(-6)}`;
  return {
    paths,
    any: { name, nodes, drive: `file=${paths.at(-1)},format=qcow2` },
    disk: { domain: name, disk: 'disk0' },
  };
}

describe.each(['blockdev', 'drive'] as const)('style %s', (style) => {
  test('a short image between longer ones is not removed', async () => {
    await using dir = await testDir();
    const { paths, any, disk } = await chainOf(dir.path, [2, 1, 2]);
    await using qemu = await startWith(site, style, any);
    const zeroes = async () => await qemu.admin.hmpQemuIo(GUEST, `read -P 0 ${MIB} ${MIB}`);
    await zeroes();
    const before = await Promise.all(paths.map(hashOf));
    const pull = site.service.rebase({ disk, base: 'disk0[2]' });
    expect(await refused(pull)).toMatchObject(LONGER);
    const commit = site.service.commit({ disk, top: 'disk0[1]', base: 'disk0[2]' });
    expect(await refused(commit)).toMatchObject({ ...LONGER, message: expect.stringContaining(paths[1] ?? '') });
    expect(await Promise.all(paths.map(hashOf))).toEqual(before);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
    // Without a base nothing is below it any more.
    const job = await site.ended(await site.service.rebase({ disk }));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    await zeroes();
    await qemu.admin.hmpQemuIo(GUEST, `read -P 18 0 ${MIB}`);
  });

  test('a disk does not become longer by a commit into a longer image', async () => {
    await using dir = await testDir();
    const { any, disk } = await chainOf(dir.path, [2, 1]);
    await using qemu = await startWith(site, style, any);
    const commit = site.service.commit({ disk, flags: [COMMITTED] });
    expect(await refused(commit)).toMatchObject(LONGER);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });
});
