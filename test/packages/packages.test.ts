/** The output of `make packages` is installed as users install it, and used. */
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { revision } from '../../build/places.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { makeChain, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const MIB = 1 << 20;
/** It reads every file of the package. */
const LINTIAN_MS = 300_000;
const PACKAGES = join(REPOSITORY, 'dist/packages');
const { version: VERSION } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
/** The Node of the tests, without options: it does not strip types. */
const PLAIN_NODE = [`PATH=${dirname(process.execPath)}:${process.env['PATH']}`, 'NODE_OPTIONS=--no-strip-types'];

interface Lock {
  readonly packages: Readonly<Record<string, { readonly version: string; readonly dev?: boolean }>>;
}

/** `name version` of each package that is installed with the service. */
function productionPackages(): readonly string[] {
  const lock = JSON.parse(readFileSync(join(REPOSITORY, 'package-lock.json'), 'utf8')) as Lock;
  const found = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  return found.map(([path, { version }]) => `${path.split('node_modules/').at(-1)} ${version}`);
}

async function inFolder(folder: string, program: string, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run('env', ['-C', folder, ...PLAIN_NODE, program, ...args]);
  return stdout + stderr;
}

/** A QEMU with a disk, served by an installed program. */
async function world(program?: readonly [string, string]) {
  await using cleanUp = new AsyncDisposableStack();
  const { path: dir } = cleanUp.use(await testDir());
  const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 4 * MIB });
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  const qemu = cleanUp.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
  const given = program === undefined ? {} : { program };
  const service = cleanUp.use(
    await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir], listen: '127.0.0.1:0', ...given }),
  );
  await service.domainUp('vm1');
  const owned = cleanUp.move();
  return { dir, qemu, service, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

describe.skipIf(needs('qemu', 'packages'))('of the packages', () => {
  const opened = new AsyncDisposableStack();
  /** A fresh folder of a user. */
  let folder: string;
  let debian: string;

  beforeAll(async () => {
    const found = readdirSync(PACKAGES);
    debian = join(PACKAGES, present(found.find((name) => name.endsWith('.deb'))));
    ({ path: folder } = opened.use(await testDir('bj-packages-')));
  });
  afterAll(async () => await opened.disposeAsync());

  async function installed(name: string, ...tarballs: readonly string[]): Promise<string> {
    const into = join(folder, name);
    await mkdir(into);
    await writeFile(join(into, 'package.json'), '{ "type": "module", "private": true }');
    const paths = tarballs.map((tarball) => join(PACKAGES, `${tarball}-${VERSION}.tgz`));
    await inFolder(into, 'npm', 'install', '--omit=dev', '--no-audit', '--no-fund', '--prefer-offline', ...paths);
    return into;
  }

  test('the npm package is installed in a fresh folder, and plain Node serves a VM and copies its disk with it', async () => {
    const user = await installed('service', 'blockjobd');
    const name = `${VERSION} (${revision()})\n`;
    for (const command of ['blockjobd', 'blockjob']) {
      expect(await inFolder(user, join('node_modules/.bin', command), '--version')).toBe(`${command} ${name}`);
    }
    const home = join(user, 'node_modules/blockjobd');
    // One file, with nothing beside it.
    const alone = join(user, 'alone.mjs');
    await copyFile(join(home, 'bin/blockjob'), alone);
    expect(await inFolder('/', process.execPath, alone, '--version')).toBe(`blockjob ${name}`);
    const sources = readdirSync(home, { recursive: true, encoding: 'utf8' });
    expect(sources.filter((path) => path.endsWith('.ts') && !path.includes('node_modules'))).toEqual([]);

    await using here = await world([process.execPath, join(home, 'src/main.js')]);
    expect(await here.service.serverInfo()).toMatchObject({ version: VERSION, build: revision(), mode: 1 });
    const copy = join(here.dir, 'copy.qcow2');
    const args = ['copy', 'vm1', 'vd0', copy, '--wait', '--pivot', '--address', here.service.address];
    expect(await inFolder(user, 'node_modules/.bin/blockjob', ...args)).toContain(copy);
    expect((await here.qemu.admin.block('vd0')).inserted?.file).toBe(copy);
  });

  test('the client has strict types for TypeScript, and runs in plain JavaScript', async () => {
    const user = await installed('client', 'blockjobd-client');
    await writeFile(join(user, 'consumer.ts'), CONSUMER);
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true };
    const options = { ...strict, module: 'nodenext', target: 'es2024', lib: ['es2024', 'esnext.disposable'] };
    await writeFile(join(user, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...options, types: ['node'] } }));
    expect(await inFolder(user, join(REPOSITORY, 'node_modules/.bin/tsc'), '-p', '.')).toBe('');
    const wrong = CONSUMER.replace("domain: 'vm1'", 'domain: 1');
    await writeFile(join(user, 'consumer.ts'), wrong);
    await expect(inFolder(user, join(REPOSITORY, 'node_modules/.bin/tsc'), '-p', '.', '--noEmit')).rejects.toThrow(
      "Type 'number' is not assignable to type 'string",
    );
    await using here = await world();
    const destination = join(here.dir, 'copy.qcow2');
    const said = await inFolder(user, 'node', 'consumer.js', here.service.address, destination);
    expect(said).toBe(`DISK_NOT_FOUND\nSTATE_COMPLETED ${destination}\n`);
  });

  test('the Debian package is installed, run, and purged', async () => {
    const { stdout } = await run('dpkg-deb', ['--field', debian]);
    expect(stdout).toMatch(/^Package: blockjobd$/m);
    expect(stdout).toContain(`\nVersion: ${VERSION}\n`);
    const inside = join(import.meta.dirname, 'install-debian.sh');
    const view = await run(join(import.meta.dirname, 'chroot.sh'), [inside, debian]);
    const name = `${VERSION} (${revision()})`;
    expect(view.stdout.split('\n')).toEqual([
      `blockjobd ${name}`,
      `blockjob ${name}`,
      '2750 root blockjobd /etc/blockjobd',
      '2750 root blockjobd /etc/blockjobd/tls',
      'units verified',
      'man page of blockjobd',
      'man page of blockjob',
      'purged',
      '',
    ]);
  });

  test('the Debian package runs without installation, with a Node of its own, and serves a VM', async () => {
    const root = join(folder, 'root');
    await run('dpkg-deb', ['--extract', debian, root]);
    const home = join(root, 'usr/lib/blockjobd');
    await using here = await world([join(home, 'bin/node'), join(home, 'src/main.js')]);
    expect(await here.service.serverInfo()).toMatchObject({ build: revision(), host: 'host-under-test' });
    const disks = (await here.service.getDomain('vm1')).disks;
    expect(disks.map(({ qdevId }) => qdevId)).toEqual(['vd0']);
  });

  test('lintian finds no error in the Debian package', async () => {
    const args = ['--allow-root', '--fail-on', 'error', '--tag-display-limit', '0', debian];
    const { stdout } = await run('lintian', args, { timeoutMs: LINTIAN_MS });
    expect(stdout).not.toMatch(/^E:/m);
  });

  test('the lists of their contents name each installed package, and nothing else', async () => {
    const read = (ending: string) =>
      JSON.parse(readFileSync(join(PACKAGES, `blockjobd-${VERSION}.${ending}.json`), 'utf8')) as never;
    const cyclone = read('cdx') as {
      readonly metadata: { readonly component: { readonly name: string } };
      readonly components: readonly { readonly name: string; readonly version: string }[];
    };
    expect(cyclone.metadata.component).toMatchObject({ name: 'blockjobd', version: VERSION });
    const expected = [...new Set(productionPackages())].toSorted();
    expect(expected.length).toBeGreaterThan(20);
    expect(cyclone.components.map(({ name, version }) => `${name} ${version}`).toSorted()).toEqual(expected);
    const spdx = read('spdx') as {
      readonly packages: readonly { readonly name: string; readonly versionInfo: string }[];
    };
    const named = spdx.packages.map(({ name, versionInfo }) => `${name} ${versionInfo}`);
    expect(named.toSorted()).toEqual([...expected, `blockjobd ${VERSION}`].toSorted());
  });
});

/** The code of a user of the client. Compiled, it is the plain JavaScript of another user. */
const CONSUMER = `
import { BlockJobClient, BlockJobError, hasEnded, type Job, Job_State, OnReady } from 'blockjobd-client';

const [address = '', destination = ''] = process.argv.slice(2);
const client = new BlockJobClient({ address });
const copy = async (disk: string): Promise<Job> => {
  const target = { $case: 'file', value: destination } as const;
  const onReady = OnReady.ON_READY_PIVOT;
  const { job } = await client.startCopy({ disk: { domain: 'vm1', disk }, destination: { target }, onReady });
  if (job === undefined) throw new Error('a plan');
  return job;
};
try {
  await copy('nothing');
} catch (error) {
  if (!(error instanceof BlockJobError)) throw error;
  console.log(error.reason);
}
const { id } = await copy('vd0');
for await (const { job } of client.watchJob({ job: { name: { $case: 'jobId', value: id } } })) {
  if (job === undefined || !hasEnded(job.state)) continue;
  const state = Object.entries(Job_State).find(([, value]) => value === job.state)?.[0];
  console.log(state, job.outcome?.guestWritesTo);
}
client.close();
`;
