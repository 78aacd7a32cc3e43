/**
 * The images of a fleet's machines, built from the files of this repository: no registry is used. The tag of an image
 * is a digest of its inputs, so that an existing one is right, and a missing one is built.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { GenericContainer } from 'testcontainers';
import { linuxNode } from '../../../build/published.ts';
import { BASE_IMAGE } from '../means.ts';
import { run } from '../real-qemu/qemu.ts';
import { REPOSITORY } from '../service/service.ts';

export type ImageName = 'etcd' | 'gateway' | 'host';
export type Images = Readonly<Record<ImageName, string>>;

const HERE = import.meta.dirname;
const CACHE = join(REPOSITORY, '.cache/docker');
const NAMES: readonly ImageName[] = ['etcd', 'gateway', 'host'];
/** The files that go into the images unchanged. */
const SERVICE = ['package.json', 'package-lock.json', 'src', 'generated'];

// For testcontainers: the container that would clean up may not be in any registry, and the published files are
// here.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';
process.env['TESTCONTAINERS_HOST_OVERRIDE'] = '127.0.0.1';

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/** Returns their full names; builds the missing ones. */
export async function images(): Promise<Images> {
  const tag = await contentTag();
  const named = { etcd: nameOf('etcd', tag), gateway: nameOf('gateway', tag), host: nameOf('host', tag) };
  const there = (await docker('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')).split('\n');
  const missing = NAMES.filter((name) => !there.includes(named[name]));
  if (missing.length > 0) {
    const context = await makeContext();
    for (const name of missing) {
      const builder = GenericContainer.fromDockerfile(context).withTarget(name).withBuildArgs({ BASE: BASE_IMAGE });
      await builder.build(named[name], { deleteOnExit: false });
    }
    await rm(context, { recursive: true });
    // Images of earlier contents only use space; some of these may already exist, from a run that was killed.
    const now: readonly string[] = Object.values(named);
    const old = there.filter((one) => NAMES.some((name) => one.startsWith(nameOf(name, ''))) && !now.includes(one));
    for (const one of old) await run('docker', ['image', 'rm', one], { accept: [0, 1] });
  }
  return named;
}

export async function docker(...args: readonly string[]): Promise<string> {
  return (await run('docker', [...args])).stdout.trim();
}

function nameOf(name: ImageName, tag: string): string {
  return `blockjobd-test-${name}:${tag}`;
}

async function contentTag(): Promise<string> {
  const hash = createHash('sha256').update(await docker('image', 'inspect', '--format', '{{.Id}}', BASE_IMAGE));
  const ours = ['Dockerfile', 'machine'].map((name) => join(HERE, name));
  for (const path of [...SERVICE.map((name) => join(REPOSITORY, name)), ...ours]) {
    for (const file of await filesOf(path)) hash.update(file.slice(REPOSITORY.length)).update(await readFile(file));
  }
  return hash.digest('hex').slice(0, 16);
}

async function filesOf(path: string): Promise<readonly string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries.flatMap((one) => (one.isFile() ? join(one.parentPath, one.name) : [])).toSorted();
}

async function makeContext(): Promise<string> {
  const context = join(CACHE, 'context');
  await rm(context, { recursive: true, force: true });
  await mkdir(join(context, 'blockjobd'), { recursive: true });
  await cp(join(HERE, 'Dockerfile'), join(context, 'Dockerfile'));
  await cp(join(HERE, 'machine'), join(context, 'machine'), { recursive: true });
  const lock = JSON.parse(await readFile(join(REPOSITORY, 'package-lock.json'), 'utf8')) as Lock;
  // npm has installed them already; a container need not download them again.
  const packages = Object.keys(lock.packages).filter((path) => path !== '' && lock.packages[path]?.dev !== true);
  for (const path of [...SERVICE, ...packages]) {
    await cp(join(REPOSITORY, path), join(context, 'blockjobd', path), { recursive: true });
  }
  const architecture = (await docker('version', '--format', '{{.Server.Arch}}')).replace('amd64', 'x64');
  await cp(join(linuxNode(architecture), 'bin/node'), join(context, 'node'));
  return context;
}
