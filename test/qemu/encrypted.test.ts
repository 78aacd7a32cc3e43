/**
 * Destinations with LUKS: with a secret of QEMU by its id, whose key is seen nowhere; opened in a fresh process
 * afterwards.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, RebaseFlag, StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { Accept, DestinationContent, ImageFormat, Job_State, WriteMode } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf, hashOf, journalEntries, monitorIn } from '../support/checks.ts';
import { QmpProxy } from '../support/fake-qemu/qmp-proxy.ts';
import { COLD, KEY, makeEncrypted, startEncrypted, WITH_OTHERS } from '../support/images/encrypted-image.ts';
import { startWith } from '../support/real-qemu/any-disk.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, type Qemu, run, type Style, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { bigintAsText, byId, errorOf, refused } from '../support/service/caller.ts';

const { IMAGE_FORMAT_QCOW2, IMAGE_FORMAT_RAW } = ImageFormat;
const GUEST = '/machine/peripheral/disk0/virtio-backend';
const s0 = { secretId: 's0' };

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

function target(value: string) {
  return { $case: 'file', value } as const;
}

async function started(request: Parameters<typeof StartCopyRequest.fromPartial>[0]) {
  return await startEncrypted(async () => await site.service.startCopy(request));
}

/** As a manager would open it next: `below` has options of its backing images. */
function image(path: string, below = ''): string {
  return `driver=qcow2,encrypt.key-secret=s0,file.driver=file,file.filename=${path}${below}`;
}

/** In a fresh process with the key: the same as this raw file, without errors. */
async function expectCold(path: string, raw: string, below = ''): Promise<void> {
  await run('qemu-img', ['compare', ...COLD, `driver=raw,file.driver=file,file.filename=${raw}`, image(path, below)]);
  await run('qemu-img', ['check', ...COLD, image(path, below)]);
}

/** A caller without the key, or with another one, cannot open it. */
async function expectLocked(path: string): Promise<void> {
  const read = ['-r', '-c', 'read 0 512'];
  const other = [...read, '--object', 'secret,id=s0,data=x', '--image-opts', image(path)];
  for (const args of [[...read, '-f', 'qcow2', path], other]) {
    const { stderr } = await run('qemu-io', args, { accept: [1] });
    expect(stderr).toMatch(/cannot unlock any keyslot|'encrypt.key-secret' is required/);
  }
}

async function expectNoKey(job: object, { stateFolder }: Site): Promise<void> {
  const names = await readdir(join(stateFolder, 'jobs'));
  const journals = await Promise.all(
    names.map(async (name) => await readFile(join(stateFolder, 'jobs', name), 'utf8')),
  );
  expect(journals.join('')).toContain('"key-secret":"s0"');
  for (const text of [...journals, site.service.log, JSON.stringify(job, bigintAsText)]) {
    expect(text).not.toContain(KEY);
    expect(text).not.toContain(Buffer.from(KEY).toString('base64'));
  }
}

function oracleOf({ dir }: Machine): string {
  return join(dir, 'oracle-disk0');
}

describe.each<[Style, WriteMode]>([
  ['blockdev', WriteMode.WRITE_MODE_BACKGROUND],
  ['drive', WriteMode.WRITE_MODE_BLOCKING],
])('a plain disk, style %s, write mode %i', (style, writeMode) => {
  test('is copied to an encrypted destination while the guest writes, and the guest continues there', async () => {
    await using machine = await site.machine({ style, extraArgs: WITH_OTHERS });
    const { disk, dir, guest, qemu } = machine;
    const path = join(dir, 'copy');
    const request = { disk, destination: { target: target(path), encryption: s0 }, writeMode };
    const plan = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(request));
    expect(plan.destination).toMatchObject({ format: IMAGE_FORMAT_QCOW2, encryption: s0 });
    expect(plan.notes.join()).toMatch(/stop for about three seconds.*copy is encrypted: start the VM/);
    const { id } = await started({ ...request, planEtag: plan.etag });
    await guest.write(0);
    await site.service.until(id, 'STATE_READY');
    await guest.write(1);
    const job = await site.service.abort({ job: byId(id), pivot: true });
    await guest.write(2);
    expect(job.destination?.encryption).toEqual(s0);
    expect(job.outcome).toMatchObject({ guestWritesTo: path, nextStartPath: path });
    expect(job.outcome?.evidence.map(({ text }) => text).join()).toMatch(
      /copy is encrypted: start the VM .*secret s0 has/,
    );
    expectClean(await graphOf(qemu.admin), id, [id, `${id}-file`]);
    await expectNoKey(job, site);
    await qemu[Symbol.asyncDispose]();
    await expectCold(path, oracleOf(machine));
    await expectLocked(path);
  });
});

test('a copy that ends without a pivot is encrypted, and complete', async () => {
  await using machine = await site.machine({ formats: ['raw'], extraArgs: WITH_OTHERS });
  const { disk, dir, guest } = machine;
  const path = join(dir, 'copy');
  const { id } = await started({ disk, destination: { target: target(path), encryption: s0 } });
  await guest.write(0);
  await site.service.until(id, 'STATE_READY');
  const job = await site.service.abort({ job: byId(id) });
  expect(job.outcome).toMatchObject({ destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE });
  await expectCold(path, oracleOf(machine));
  await expectLocked(path);
});

describe('a disk that is encrypted', () => {
  test.each(['luks', 'qcow2'] as const)(
    '%s: is copied to an encrypted destination, and the caller need not accept anything',
    async (format) => {
      await using dir = await testDir();
      const [source, path, plain] = [join(dir.path, 'image'), join(dir.path, 'copy'), join(dir.path, 'plain')];
      await makeEncrypted(source, format, 4 * MIB);
      const key = format === 'luks' ? { 'key-secret': 's0' } : { encrypt: { format: 'luks', 'key-secret': 's0' } };
      const name = `m${dir.path.slice(-6)}`;
      const nodes = [{ driver: format, ...key, file: { driver: 'file', filename: source } }];
      await using qemu = await startWith(site, 'blockdev', { name, nodes, drive: '', extraArgs: WITH_OTHERS });
      await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x55 0 4M');
      await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x53 0 1M');
      const disk = { domain: name, disk: 'disk0' };
      expect(
        await refused(
          site.service.startCopy({ disk, destination: { target: target(path), format: IMAGE_FORMAT_QCOW2 } }),
        ),
      ).toMatchObject({
        reason: 'LOSS_NOT_ACCEPTED',
        message: expect.stringContaining('destination.encryption of StartCopy'),
      });
      const { id } = await started({
        disk,
        destination: { target: target(path), encryption: s0 },
        accept: [Accept.ACCEPT_LOSES_ENCRYPTION],
      });
      await site.service.until(id, 'STATE_READY');
      await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x54 2M 64k');
      const job = await site.service.abort({ job: byId(id), pivot: true });
      // Nothing is lost.
      expect(job.options?.accept).toEqual([]);
      await qemu[Symbol.asyncDispose]();
      const bytes = Buffer.alloc(4 * MIB, 0x55);
      bytes.fill(0x53, 0, MIB).fill(0x54, 2 * MIB, 2 * MIB + 65_536);
      await writeFile(plain, bytes);
      await expectCold(path, plain);
      expect(readFileSync(path).includes(Buffer.alloc(512, 0x53))).toBe(false);
    },
  );
});

/** An encrypted image over a plain one, or the other way round. */
async function chainOf(
  dir: string,
  is: 'TOP' | 'BASE',
): Promise<{ qemu: Qemu; base: string; top: string; name: string }> {
  const [base, top, name] = [join(dir, 'base'), join(dir, 'top'), `m${dir.slice(-6)}`];
  const below = { path: base, format: 'qcow2' };
  if (is === 'TOP') {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(MIB)]);
    await makeEncrypted(top, 'qcow2', MIB, below);
  } else {
    await makeEncrypted(base, 'qcow2', MIB);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', top, String(MIB)]);
    await run('qemu-img', ['rebase', '-u', '-F', 'qcow2', '-b', base, top]);
  }
  const encrypt = { encrypt: { format: 'luks', 'key-secret': 's0' } };
  const qemu = await startWith(site, 'blockdev', {
    name,
    nodes: [
      {
        driver: 'qcow2',
        'node-name': 'base',
        ...(is === 'BASE' ? encrypt : {}),
        file: { driver: 'file', filename: base, 'auto-read-only': true },
        'read-only': true,
      },
      { driver: 'qcow2', ...(is === 'TOP' ? encrypt : {}), file: { driver: 'file', filename: top }, backing: 'base' },
    ],
    drive: '',
    extraArgs: WITH_OTHERS,
  });
  return { qemu, base, top, name };
}

describe('a chain with an encrypted image', () => {
  test('a shallow copy of an overlay over an encrypted base opens with the keys of both', async () => {
    await using dir = await testDir();
    const { qemu, base, name } = await chainOf(dir.path, 'BASE');
    await using _ = qemu;
    const [path, plain] = [join(dir.path, 'copy'), join(dir.path, 'plain')];
    await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x53 0 64k');
    const disk = { domain: name, disk: 'disk0' };
    const { id } = await started({ disk, destination: { target: target(path), encryption: s0 }, shallow: true });
    await site.service.until(id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(job.options?.basePath).toBe(base);
    const evidence = job.outcome?.evidence.map(({ text }) => text) ?? [];
    expect(evidence).toContainEqual(expect.stringMatching(/copy is encrypted: start the VM/));
    expect(evidence).toContainEqual(
      expect.stringContaining(`${base}, below ${path}, is encrypted with a key of its own`),
    );
    await qemu[Symbol.asyncDispose]();
    await writeFile(plain, Buffer.alloc(MIB).fill(0x53, 0, 65_536));
    await expectCold(path, plain, ',backing.encrypt.key-secret=s0');
  });

  test('an encrypted image is not committed into a base that is not encrypted, unless the caller accepts that', async () => {
    await using dir = await testDir();
    const { qemu, base, top, name } = await chainOf(dir.path, 'TOP');
    await using _ = qemu;
    await qemu.admin.hmpQemuIo(GUEST, 'write -P 0x53 0 64k');
    const request = { disk: { domain: name, disk: 'disk0' }, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] };
    expect(await refused(site.service.commit(request))).toMatchObject({
      reason: 'LOSS_NOT_ACCEPTED',
      metadata: { accept: 'LOSES_ENCRYPTION', path: top },
    });
    expect(readFileSync(base).includes(Buffer.alloc(512, 0x53))).toBe(false);
    const { id } = await site.service.commit({ ...request, accept: [Accept.ACCEPT_LOSES_ENCRYPTION] });
    await site.service.until(id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(job.options?.accept).toEqual([Accept.ACCEPT_LOSES_ENCRYPTION]);
    expect(readFileSync(base).includes(Buffer.alloc(512, 0x53))).toBe(true);
  });
});

test('a reused destination is opened with its secret, and only with it', async () => {
  await using machine = await site.machine({ formats: ['qcow2'], extraArgs: WITH_OTHERS });
  const { disk, dir, guest, qemu } = machine;
  const [locked, open, aes] = [join(dir, 'locked'), join(dir, 'open'), join(dir, 'aes')];
  await makeEncrypted(locked, 'qcow2', guest.sizeBytes);
  for (const path of [open, aes]) await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(guest.sizeBytes)]);
  const header = await readFile(aes);
  header.writeUInt32BE(1, 32);
  await writeFile(aes, header);
  const before = await hashOf(locked);
  const to = (path: string, secretId?: string) => ({
    disk,
    destination: { target: target(path), ...(secretId === undefined ? {} : { encryption: { secretId } }) },
    reuseExternal: true,
  });
  const reasonOf = async (request: ReturnType<typeof to>) => (await refused(site.service.startCopy(request))).reason;
  expect(await reasonOf(to(locked))).toBe('ENCRYPTION_MISMATCH');
  expect(await reasonOf(to(open, 's0'))).toBe('ENCRYPTION_MISMATCH');
  expect([await reasonOf(to(aes)), await reasonOf(to(aes, 's0'))]).toEqual(['FORMAT_UNKNOWN', 'FORMAT_UNKNOWN']);
  const flags = [RebaseFlag.REBASE_FLAG_COPY, RebaseFlag.REBASE_FLAG_REUSE_EXT];
  expect((await refused(site.service.rebase({ disk, base: locked, flags }))).reason).toBe('ENCRYPTION_MISMATCH');
  expect(await refused(site.service.startCopy(to(locked, 'other')))).toMatchObject({
    reason: 'SECRET_WRONG',
    metadata: { path: locked },
  });
  expect(await hashOf(locked)).toBe(before);

  const { id } = await site.service.startCopy(to(locked, 's0'));
  await guest.write(0);
  await site.service.until(id, 'STATE_READY');
  await site.service.abort({ job: byId(id), pivot: true });
  await guest.write(1);
  await qemu[Symbol.asyncDispose]();
  await expectCold(locked, oracleOf(machine));
});

describe('a secret', () => {
  test('must exist in QEMU at the start, whatever the plan was', async () => {
    await using machine = await site.machine({ formats: ['qcow2'], extraArgs: WITH_OTHERS });
    const { disk, dir, qemu } = machine;
    const path = join(dir, 'copy');
    const to = (secretId: string, format: ImageFormat = ImageFormat.IMAGE_FORMAT_UNSPECIFIED) => ({
      disk,
      destination: { target: target(path), encryption: { secretId }, format },
    });
    for (const [id, why] of [
      ['nobody', 'no object'],
      ['io0', 'iothread'],
      ['type', 'no object'],
    ] as const) {
      expect(await refused(site.service.startCopy(to(id)))).toMatchObject({
        reason: 'SECRET_NOT_FOUND',
        metadata: { secretId: id, domain: disk.domain },
        message: expect.stringContaining(why) as string,
      });
    }
    for (const wrong of [to(''), to('s0', IMAGE_FORMAT_RAW)]) {
      expect((await refused(site.service.startCopy(wrong))).reason).toBe('FIELD_INVALID');
    }
    const { etag } = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(to('s0')));
    await qemu.admin.execute('object-del', { id: 's0' });
    expect(await refused(site.service.startCopy({ ...to('s0'), planEtag: etag }))).toMatchObject({
      reason: 'SECRET_NOT_FOUND',
    });
    expect(existsSync(path)).toBe(false);
  });

  test('that goes away while the job is being started: all steps are undone', async () => {
    await using dir = await testDir();
    const name = `m${dir.path.slice(-6)}`;
    const chain = await makeChain(dir.path, { formats: ['qcow2'], sizeBytes: MIB });
    const disks = [{ id: 'disk0', bus: 'virtio-blk', chain }] as const;
    await using qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [...disks],
      extraArgs: [...monitorIn(dir.path, name), ...WITH_OTHERS],
    });
    await using _proxy = await QmpProxy.between(
      join(site.sockets, `${name}.sock`),
      join(dir.path, `${name}.sock`),
      async (command) => {
        if (command === 'blockdev-create') await qemu.admin.execute('object-del', { id: 's0' });
        return true;
      },
    );
    await site.service.domainUp(name);
    const before = await graphOf(qemu.admin);
    const path = join(dir.path, 'copy');
    const disk = { domain: name, disk: 'disk0' };
    expect(
      await refused(site.service.startCopy({ disk, destination: { target: target(path), encryption: s0 } })),
    ).toMatchObject({
      reason: 'SECRET_NOT_FOUND',
      metadata: { secretId: 's0', domain: name },
    });
    expect(existsSync(path)).toBe(false);
    expect(await graphOf(qemu.admin)).toEqual(before);
  });
});

describe('the service is killed', () => {
  test('while QEMU makes the key: all steps are undone', async () => {
    await using dir = await testDir();
    const name = `m${dir.path.slice(-6)}`;
    const chain = await makeChain(dir.path, { formats: ['qcow2'], sizeBytes: MIB });
    await using qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain }],
      extraArgs: [...monitorIn(dir.path, name), ...WITH_OTHERS],
    });
    const sent = Promise.withResolvers<void>();
    await using _proxy = await QmpProxy.between(
      join(site.sockets, `${name}.sock`),
      join(dir.path, `${name}.sock`),
      async (command) => {
        if (command === 'blockdev-create') setImmediate(sent.resolve);
        return await Promise.resolve(true);
      },
    );
    await site.service.domainUp(name);
    const before = await graphOf(qemu.admin);
    const path = join(dir.path, 'copy');
    const disk = { domain: name, disk: 'disk0' };
    const answer = refused(site.service.startCopy({ disk, destination: { target: target(path), encryption: s0 } }));
    await sent.promise;
    await site.restart('SIGKILL', undefined, async () => {
      await Promise.resolve(expect(existsSync(path)).toBe(true));
    });
    await answer;
    await site.service.domainUp(name, 90_000);
    // No caller has heard about the job: after the undo it no longer exists.
    await eventually(
      'the start is undone',
      async () => ((await site.service.listJobs({ domain: name })).jobs.length === 0 ? true : undefined),
      90_000,
    );
    expect(existsSync(path)).toBe(false);
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  test.each(['kept', 'lost'] as const)(
    'while it copies, its journal is %s: the copy continues, and stays encrypted',
    async (journal) => {
      await using machine = await site.machine({ formats: ['qcow2'], extraArgs: WITH_OTHERS });
      const { disk, dir, guest, qemu } = machine;
      const path = join(dir, 'copy');
      const { id } = await started({
        disk,
        destination: { target: target(path), encryption: s0 },
        bandwidthBytesPerSecond: 65_536n,
      });
      await guest.write(0);
      await site.restart('SIGKILL', disk.domain, async () => {
        if (journal === 'lost') await rm(join(site.stateFolder, 'jobs', `${id}.jsonl`));
      });
      const found = await site.service.getInfo(id);
      expect(found).toMatchObject({
        state: Job_State.STATE_RUNNING,
        destination: { target: target(path), encryption: s0 },
      });
      await site.service.setSpeed(id, 0n);
      await guest.write(1);
      await site.service.until(id, 'STATE_READY');
      const job = await site.service.abort({ job: byId(id), pivot: true });
      expect([job.state, errorOf(job)]).toEqual([Job_State.STATE_COMPLETED, undefined]);
      expect(job.outcome?.guestWritesTo).toBe(path);
      expect(job.outcome?.evidence.map(({ text }) => text).join()).toContain('copy is encrypted: start the VM');
      await guest.write(2);
      expectClean(await graphOf(qemu.admin), id, [id, `${id}-file`]);
      if (journal === 'kept') {
        await journalEntries(site.stateFolder, id, job.revision);
        await expectNoKey(job, site);
      }
      await qemu[Symbol.asyncDispose]();
      await expectCold(path, oracleOf(machine));
    },
  );
});
