/** The allowed destinations of a copy: nothing outside the allowed folders, no existing file, nothing in use. */
import { execFileSync } from 'node:child_process';
import { chmod, lstat, mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DomainGraph } from '../../../../src/agent/qemu/graphs.ts';
import { checkDestination } from '../../../../src/agent/starts/destination.ts';
import type { Site } from '../../../../src/agent/starts/site.ts';
import type { BlockGraph } from '../../../../src/core/disk/chain.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import { plainOptions } from '../../../../src/core/job-options.ts';
import { anImage } from '../../../support/images/image.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

const TOP = anImage({ path: '/vm/disk.qcow2', virtualSizeBytes: 1024 * 1024 });

/** The path of the socket for QEMU, or the reason of the refusal. */
async function checkedSocket(path: string, folders: readonly string[]): Promise<unknown> {
  const allowed = { folders, nbdServers: [] };
  const nbd = { server: { kind: 'unix', path }, exportName: 'd', tlsCredentialsId: '', tlsHostname: '' } as const;
  const destination = { kind: 'nbd', nbd } as const;
  const spec = {
    destination,
    format: undefined,
    encryption: undefined,
    options: plainOptions(0),
    accept: new Set<never>(),
  };
  try {
    const site = { allowed, disk: { id: 'vd0', chain: [TOP] }, schema: undefined } as unknown as Site;
    const { plan } = await checkDestination(spec, { top: TOP, backing: undefined }, site);
    return plan.storage.driver === 'nbd' ? plan.storage.server : plan.storage;
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return error.reason;
  }
}

/** A new file at this path, for a disk that does not use it. */
async function checkNewFile(
  path: string,
  folders: readonly string[],
  graphs: readonly Pick<DomainGraph, 'domain' | 'graph'>[],
) {
  const site = {
    identity: { facts: undefined },
    machine: {
      name: 'vm',
      openFiles: () => undefined,
      graph: async () => await Promise.resolve({ nodes: new Map() }),
    },
    disk: { id: 'vd0', chain: [TOP] },
    graphs: graphs.map((one) => ({ socketPath: '/run/vm.sock', opens: undefined, ...one })),
    allowed: { folders, nbdServers: [] },
  } as unknown as Site;
  const spec = {
    destination: { kind: 'file', path },
    format: undefined,
    encryption: undefined,
    options: plainOptions(0),
    accept: new Set<never>(),
  } as const;
  const { path: real, plan } = await checkDestination(spec, { top: TOP, backing: undefined }, site);
  return { path: real, takeOver: plan.make?.new === 'FILE' && plan.make.takeOver };
}

/** The real path, or the reason of the refusal and the path that it names. */
async function checked(path: string, allowed: readonly string[], graphs: Parameters<typeof checkNewFile>[2] = []) {
  try {
    return (await checkNewFile(path, allowed, graphs)).path;
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return `${error.reason} ${error.failure.metadata['path']}`;
  }
}

/** Actions that only root may do are tested as root, and skipped loudly otherwise. */
const AS_ROOT = process.getuid?.() === 0 && canMount();
if (!AS_ROOT) console.warn('NOT TESTED, AS MOUNTS NEED ROOT: read-only and full file systems, device nodes');

function canMount(): boolean {
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function mounted(at: string, options: string): Promise<AsyncDisposable> {
  await mkdir(at);
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', at]);
  return {
    [Symbol.asyncDispose]: async () => {
      execFileSync('umount', [at]);
    },
  };
}

/** A graph whose one node has this file open. */
function graphWith(path: string): BlockGraph {
  const image = anImage({ node: 'n1', format: 'file', path });
  return { disks: [], nodes: new Map([['n1', image]]), children: new Map(), jobNodes: new Map() };
}

describe('a new destination', () => {
  it('is accepted in an allowed folder, and below it', async () => {
    await using dir = await testDir();
    await mkdir(join(dir.path, 'a'));
    for (const path of [join(dir.path, 'x'), join(dir.path, 'a', 'x')])
      expect(await checked(path, ['/nowhere', dir.path])).toBe(path);
    expect(await checked(join(dir.path, 'x'), ['/'])).toBe(join(dir.path, 'x'));
  });

  it('is not made by the check', async () => {
    await using dir = await testDir();
    await checked(join(dir.path, 'x'), [dir.path]);
    await expect(lstat(join(dir.path, 'x'))).rejects.toThrow('ENOENT');
  });

  it('is refused if no folder is allowed, or no existing one', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    for (const allowed of [[], [join(dir.path, 'missing')], ['']])
      expect(await checked(path, allowed)).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('is refused in a folder whose name only begins like an allowed one, or that is above it', async () => {
    await using dir = await testDir();
    const allowed = join(dir.path, 'allowed');
    await mkdir(allowed);
    await mkdir(join(dir.path, 'allowed-evil'));
    for (const path of [join(dir.path, 'allowed-evil', 'x'), join(dir.path, 'x'), allowed])
      expect(await checked(path, [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('is at the end of its links: out of an allowed folder is refused, into one is made there', async () => {
    await using dir = await testDir();
    const [allowed, outside] = [join(dir.path, 'allowed'), join(dir.path, 'outside')];
    await mkdir(allowed);
    await mkdir(outside);
    await symlink(outside, join(allowed, 'out'));
    await symlink(allowed, join(outside, 'in'));
    expect(await checked(join(allowed, 'out', 'x'), [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${allowed}/out/x`);
    expect(await checked(join(outside, 'in', 'x'), [allowed])).toBe(join(allowed, 'x'));
    expect(await checked(join(outside, 'in', 'x'), [join(outside, 'in')])).toBe(join(allowed, 'x'));
  });

  it('is missing without its folder, and invalid if a file is used as a folder', async () => {
    await using dir = await testDir();
    const folder = join(dir.path, 'missing');
    expect(await checked(join(folder, 'x'), [dir.path])).toBe(`DESTINATION_MISSING ${folder}`);
    await writeFile(folder, 'a file');
    expect(await checked(join(folder, 'x'), [dir.path])).toMatch(/^FIELD_INVALID /);
    await symlink(join(dir.path, 'nothing'), join(dir.path, 'dangling'));
    expect(await checked(join(dir.path, 'dangling', 'x'), [dir.path])).toMatch(/^DESTINATION_MISSING /);
  });

  it('does not reveal whether a folder exists that is not allowed', async () => {
    await using dir = await testDir();
    const allowed = join(dir.path, 'allowed');
    await mkdir(allowed);
    const path = join(dir.path, 'missing', 'x');
    expect(await checked(path, [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('exists if a file with contents exists there, or anything but a plain file', async () => {
    await using dir = await testDir();
    const at = (name: string) => join(dir.path, name);
    await writeFile(at('file'), 'x');
    await mkdir(at('folder'));
    await symlink(at('nothing'), at('dangling'));
    await writeFile(at('empty'), '');
    await symlink(at('empty'), at('link-to-empty'));
    execFileSync('mkfifo', [at('fifo')]);
    for (const name of ['file', 'dangling', 'link-to-empty', 'fifo'])
      expect(await checked(at(name), [dir.path])).toBe(`DESTINATION_EXISTS ${at(name)}`);
    await expect(checkNewFile(at('folder'), [dir.path], [])).rejects.toMatchObject({ reason: 'FIELD_INVALID' });
  });

  it('may be a file of zero length, unless a domain has exactly that file open, by whatever name', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'empty');
    await writeFile(path, '');
    await symlink(path, join(dir.path, 'link'));
    const other = { domain: 'vm1', graph: graphWith(join(dir.path, 'other')) };
    expect(await checkNewFile(path, [dir.path], [other])).toEqual({ path, takeOver: true });
    for (const name of [path, join(dir.path, 'link')]) {
      const graphs = [other, { domain: 'vm2', graph: graphWith(name) }];
      await expect(checkNewFile(path, [dir.path], graphs)).rejects.toMatchObject({
        reason: 'DESTINATION_IN_USE',
        message: expect.stringContaining('node n1 of domain vm2') as string,
        failure: { metadata: { path } },
      });
    }
  });

  it('cannot have a name that is too long', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x'.repeat(256));
    await expect(checkNewFile(path, [dir.path], [])).rejects.toMatchObject({
      reason: 'FIELD_INVALID',
      failure: { metadata: { field: 'destination.file' } },
    });
  });

  it.skipIf(!AS_ROOT)('exists if a device node exists there', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'null');
    execFileSync('mknod', [path, 'c', '1', '3']);
    expect(await checked(path, [dir.path])).toBe(`DESTINATION_EXISTS ${path}`);
  });

  it.skipIf(!AS_ROOT)('is denied in a read-only file system', async () => {
    await using dir = await testDir();
    const at = join(dir.path, 'read-only');
    await using _mount = await mounted(at, 'ro,size=4m');
    await expect(checkNewFile(join(at, 'x'), [dir.path], [])).rejects.toMatchObject({
      reason: 'ACCESS_DENIED',
      message: expect.stringMatching(/: EROFS .*read-only$/) as string,
    });
  });

  it.skipIf(!AS_ROOT)('has no space in a file system that is almost full', async () => {
    await using dir = await testDir();
    const at = join(dir.path, 'small');
    await using _mount = await mounted(at, 'size=2m');
    expect(await checked(join(at, 'x'), [dir.path])).toBe(join(at, 'x'));
    await writeFile(join(at, 'filler'), Buffer.alloc(1024 * 1024 + 4096));
    expect(await checked(join(at, 'x'), [dir.path])).toBe(`NO_SPACE ${at}/x`);
  });

  it.skipIf(process.getuid?.() === 0)('is denied in a folder that we may not write to', async () => {
    await using dir = await testDir();
    const folder = join(dir.path, 'closed');
    await mkdir(folder);
    await chmod(folder, 0o500);
    expect(await checked(join(folder, 'x'), [dir.path])).toBe(`ACCESS_DENIED ${folder}/x`);
    await chmod(folder, 0o700);
  });
});

describe('the socket of an NBD server', () => {
  it('is at the end of its links: out of an allowed folder is refused, inside QEMU gets no link', async () => {
    await using dir = await testDir();
    const [allowed, outside] = [join(dir.path, 'allowed'), join(dir.path, 'outside')];
    for (const one of [allowed, outside]) await mkdir(one);
    await symlink(join(outside, 's'), join(allowed, 'out'));
    await symlink(outside, join(allowed, 'folder-out'));
    await symlink('s', join(allowed, 'in'));
    const servers = [join(allowed, 's'), join(outside, 's')].map((path) =>
      createServer((socket) => void socket.on('error', () => undefined).end('NBDMAGIC')).listen(path),
    );
    try {
      for (const name of ['s', 'in'])
        expect(await checkedSocket(join(allowed, name), [allowed])).toEqual({ kind: 'unix', path: join(allowed, 's') });
      for (const name of ['out', 'folder-out/s'])
        expect(await checkedSocket(join(allowed, name), [allowed])).toBe('DESTINATION_NOT_ALLOWED');
      expect(await checkedSocket(join(allowed, 'none'), [allowed])).toBe('DESTINATION_UNREACHABLE');
    } finally {
      for (const server of servers) server.close();
    }
  });
});
