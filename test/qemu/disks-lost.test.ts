/** A loss of data or metadata is refused, unless the caller accepts exactly that loss; then the outcome reports it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, RebaseFlag, StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { Accept, ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { makeEncrypted, WITH_SECRET } from '../support/images/encrypted-image.ts';
import { sameContents, startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type Qemu, run, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const { ACCEPT_LOSES_ENCRYPTION, ACCEPT_LOSES_INTERNAL_SNAPSHOTS } = Accept;
const GUEST = '/machine/peripheral/disk0/virtio-backend';
const QCOW2_KEY = 'encrypt.format=luks,encrypt.key-secret=s0';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

function notAccepted(accept: string, path: string) {
  return { reason: 'LOSS_NOT_ACCEPTED', metadata: { accept, path } };
}

async function pivoted(request: Partial<StartCopyRequest>) {
  const { id } = await site.service.startCopy(request);
  await site.service.until(id, 'STATE_READY');
  return await site.service.abort({ job: byId(id), pivot: true });
}

describe.each(['blockdev', 'drive'] as const)('an encrypted disk, style %s', (style) => {
  // The guest sees zeroes, and the disk may have anything; the guest's own bytes must not be found.
  const BYTES = Buffer.alloc(512, 0x53);

  async function encrypted(
    dir: string,
    format: 'luks' | 'qcow2',
  ): Promise<{ qemu: Qemu; image: string; name: string }> {
    const image = join(dir, 'image');
    await makeEncrypted(image, format, 4 * MIB);
    const options = format === 'luks' ? 'key-secret=s0' : QCOW2_KEY;
    const name = `m${dir.slice(-6)}`;
    const key = format === 'luks' ? { 'key-secret': 's0' } : { encrypt: { format: 'luks', 'key-secret': 's0' } };
    const qemu = await startWith(site, style, {
      name,
      nodes: [{ driver: format, ...key, file: { driver: 'file', filename: image } }],
      drive: `file=${image},format=${format},${options}`,
      extraArgs: WITH_SECRET,
    });
    await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x53 0 1M');
    return { qemu, image, name };
  }

  test.each(['luks', 'qcow2'] as const)(
    '%s: is not copied to a readable destination, unless the caller accepts that',
    async (format) => {
      await using dir = await testDir();
      const { qemu, image, name } = await encrypted(dir.path, format);
      await using _ = qemu;
      const path = join(dir.path, 'copy');
      const destination = { target: { $case: 'file', value: path }, format: ImageFormat.IMAGE_FORMAT_QCOW2 } as const;
      const request = { disk: { domain: name, disk: 'disk0' }, destination };
      const other = { ...request, accept: [ACCEPT_LOSES_INTERNAL_SNAPSHOTS, Accept.ACCEPT_SHARED_WRITER] };
      for (const one of [request, other]) {
        expect(await refused(site.service.startCopy(one))).toMatchObject(notAccepted('LOSES_ENCRYPTION', image));
      }
      const flags = [RebaseFlag.REBASE_FLAG_COPY, RebaseFlag.REBASE_FLAG_COPY_RAW];
      expect(await refused(site.service.rebase({ disk: request.disk, base: path, flags }))).toMatchObject(
        notAccepted('LOSES_ENCRYPTION', image),
      );
      expect(existsSync(path)).toBe(false);

      const accepting = { ...request, accept: [ACCEPT_LOSES_ENCRYPTION, Accept.ACCEPT_SHARED_WRITER] };
      const plan = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(accepting));
      expect(plan.notes.join()).toMatch(
        /^LOSES_ENCRYPTION is accepted: .*image is encrypted: its contents would be readable/,
      );
      const job = await pivoted(accepting);
      expect(job.options?.accept).toEqual([ACCEPT_LOSES_ENCRYPTION]);
      expect(job.outcome?.evidence.map(({ text }) => text).join()).toContain(`LOSES_ENCRYPTION was accepted: ${image}`);
      expect(job.outcome?.safeToDelete.map(({ path: one, warning }) => [one, /is encrypted/.test(warning)])).toEqual([
        [image, true],
      ]);
      expect(readFileSync(image).includes(BYTES)).toBe(false);
      expect(readFileSync(path).includes(BYTES)).toBe(true);
    },
  );

  test('an overlay that is not encrypted is not filled from it, unless the caller accepts that', async () => {
    await using dir = await testDir();
    const [base, top] = [join(dir.path, 'base'), join(dir.path, 'top')];
    await makeEncrypted(base, 'qcow2', MIB);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', top, String(MIB)]);
    await run('qemu-img', ['rebase', '-u', '-F', 'qcow2', '-b', base, top]);
    const name = `m${dir.path.slice(-6)}`;
    const encrypt = { encrypt: { format: 'luks', 'key-secret': 's0' } };
    await using qemu = await startWith(site, style, {
      name,
      nodes: [
        {
          driver: 'qcow2',
          'node-name': 'base',
          ...encrypt,
          file: { driver: 'file', filename: base, 'auto-read-only': true },
          'read-only': true,
        },
        { driver: 'qcow2', file: { driver: 'file', filename: top }, backing: 'base' },
      ],
      drive: `file=${top},format=qcow2,backing.encrypt.format=luks,backing.encrypt.key-secret=s0`,
      extraArgs: WITH_SECRET,
    });
    const disk = { domain: name, disk: 'disk0' };
    const loss = notAccepted('LOSES_ENCRYPTION', base);
    expect(await refused(site.service.rebase({ disk }))).toMatchObject(loss);
    // The writes of the guest go into the base then, encrypted: nothing is lost.
    const active = await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
    await site.service.until(active.id, 'STATE_READY');
    await site.service.abort({ job: byId(active.id) });
    // A copy of the overlay alone is over the same base.
    const target = { $case: 'file', value: join(dir.path, 'shallow') } as const;
    const shallow = await site.service.startCopy({ disk, destination: { target }, shallow: true });
    await site.service.until(shallow.id, 'STATE_READY');
    await site.service.abort({ job: byId(shallow.id) });
    const job = await site.ended(await site.service.rebase({ disk, accept: [ACCEPT_LOSES_ENCRYPTION] }));
    expect([job.state, job.options?.accept]).toEqual([Job_State.STATE_COMPLETED, [ACCEPT_LOSES_ENCRYPTION]]);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });

  test('data that is pulled into an encrypted image stays encrypted', async () => {
    await using dir = await testDir();
    const [base, top] = [join(dir.path, 'base'), join(dir.path, 'top')];
    await run('qemu-img', ['create', '-q', '-f', 'raw', base, String(MIB)]);
    await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x53 0 1M', base]);
    await makeEncrypted(top, 'qcow2', MIB, { path: base, format: 'raw' });
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, style, {
      name,
      nodes: [
        { driver: 'raw', 'node-name': 'base', file: { driver: 'file', filename: base }, 'read-only': true },
        {
          driver: 'qcow2',
          encrypt: { format: 'luks', 'key-secret': 's0' },
          file: { driver: 'file', filename: top },
          backing: 'base',
        },
      ],
      drive: `file=${top},format=qcow2,${QCOW2_KEY}`,
      extraArgs: WITH_SECRET,
    });
    const job = await site.ended(await site.service.rebase({ disk: { domain: name, disk: 'disk0' } }));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    await qemu.admin.hmpQemuIo(GUEST, 'read -P 0x53 0 1M');
    expect(readFileSync(top).includes(BYTES)).toBe(false);
  });
});

/** The contents of the snapshot, as a raw file. */
async function shown(image: string, snapshot: string, to: string): Promise<string> {
  await run('qemu-img', ['convert', '-U', '-l', `snapshot.name=${snapshot}`, '-O', 'raw', image, to]);
  return `driver=raw,file.filename=${to}`;
}

describe.each(['blockdev', 'drive'] as const)('internal snapshots, style %s', (style) => {
  /** Base first; each has a snapshot where its number is named, of what only it and those below it show. */
  async function chainOf(dir: string, count: number, withSnapshot: readonly number[]) {
    const paths = Array.from({ length: count }, (_, at) => join(dir, `${at}.qcow2`));
    for (const [at, path] of paths.entries()) {
      const below = at === 0 ? [] : ['-F', 'qcow2', '-b', paths[at - 1] ?? ''];
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...below, path, String(4 * MIB)]);
      await run('qemu-io', ['-f', 'qcow2', '-c', `write -P ${0x11 + at} ${at}M 1M`, path]);
      if (!withSnapshot.includes(at)) continue;
      await run('qemu-img', ['snapshot', '-c', `monday${at}`, path]);
      await run('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x77 ${at}M 64k`, path]);
    }
    const name = `m${dir.slice(-6)}`;
    const nodes = paths.map((filename, at) => ({
      driver: 'qcow2',
      'node-name': `n${at}`,
      file: { driver: 'file', filename, 'auto-read-only': true },
      backing: at === 0 ? null : `n${at - 1}`,
      'read-only': at < count - 1,
    }));
    const qemu = await startWith(site, style, { name, nodes, drive: `file=${paths.at(-1)},format=qcow2` });
    return { qemu, paths, disk: { domain: name, disk: 'disk0' } };
  }

  test('a copy has none of them: it is refused, or accepted, and a warning is at the source that may be deleted', async () => {
    await using dir = await testDir();
    const { qemu, paths, disk } = await chainOf(dir.path, 2, [0, 1]);
    await using _ = qemu;
    const top = paths[1] ?? '';
    const target = { $case: 'file', value: join(dir.path, 'copy') } as const;
    const request = { disk, destination: { target, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED } };
    expect(await refused(site.service.startCopy(request))).toMatchObject({
      ...notAccepted('LOSES_INTERNAL_SNAPSHOTS', top),
      message: expect.stringMatching(/monday1.*delete them first/),
    });
    const job = await pivoted({ ...request, accept: [ACCEPT_LOSES_INTERNAL_SNAPSHOTS] });
    expect(job.outcome?.safeToDelete.map(({ path, warning }) => [path, /monday1/.test(warning)])).toEqual([
      [top, true],
    ]);
  });

  test('a pull leaves them without the data below: it is refused, or accepted', async () => {
    await using dir = await testDir();
    const { qemu, paths, disk } = await chainOf(dir.path, 3, [1, 2]);
    const [, middle = '', top = ''] = paths;
    const before = await shown(top, 'monday2', join(dir.path, 'before'));
    const loss = notAccepted('LOSES_INTERNAL_SNAPSHOTS', top);
    expect(await refused(site.service.rebase({ disk }))).toMatchObject(loss);
    expect(await refused(site.service.rebase({ disk, base: 'disk0[2]' }))).toMatchObject(loss);
    // Nothing is pulled; and a commit below keeps their contents.
    const nothing = await site.ended(await site.service.rebase({ disk, base: 'disk0[1]' }));
    expect(nothing.state).toBe(Job_State.STATE_COMPLETED);
    const commit = { disk, top: 'disk0[1]', base: 'disk0[2]' };
    expect(await refused(site.service.commit({ ...commit, flags: [CommitFlag.COMMIT_FLAG_DELETE] }))).toMatchObject(
      notAccepted('LOSES_INTERNAL_SNAPSHOTS', middle),
    );
    expect(existsSync(middle)).toBe(true);
    const committed = await site.ended(
      await site.service.commit({ ...commit, accept: [ACCEPT_LOSES_INTERNAL_SNAPSHOTS] }),
    );
    expect(committed.outcome?.safeToDelete.map(({ path, warning }) => [path, /monday1/.test(warning)])).toEqual([
      [middle, true],
    ]);
    const after = await shown(top, 'monday2', join(dir.path, 'after'));
    expect(await sameContents([before], [after])).toBe(true);
    const pulled = await site.ended(await site.service.rebase({ disk, accept: [ACCEPT_LOSES_INTERNAL_SNAPSHOTS] }));
    expect(pulled.state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    expect(await sameContents([before], [await shown(top, 'monday2', join(dir.path, 'lost'))])).toBe(false);
  });

  test('those of an image that a commit fills keep their contents', async () => {
    await using dir = await testDir();
    const { qemu, paths, disk } = await chainOf(dir.path, 2, [0]);
    await using _ = qemu;
    const base = paths[0] ?? '';
    const before = await shown(base, 'monday0', join(dir.path, 'before'));
    const { id } = await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id), pivot: true });
    expect(await sameContents([before], [await shown(base, 'monday0', join(dir.path, 'after'))])).toBe(true);
  });
});
