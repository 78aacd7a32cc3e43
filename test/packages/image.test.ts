/** The image of deploy/Dockerfile, as a folder: the service runs with nothing but the files that are copied into it. */
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MANIFEST, revision } from '../../build/places.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

interface Lock {
  readonly packages: Readonly<Record<string, unknown>>;
}

async function linesOf(name: string): Promise<readonly string[]> {
  return (await readFile(join(REPOSITORY, name), 'utf8')).split('\n');
}

test('the service runs with the files of the image', async () => {
  await using image = await testDir();
  const all = await linesOf('deploy/Dockerfile');
  const stage = all.slice(all.findLastIndex((line) => line.startsWith('FROM ')));
  const copies = stage.flatMap((line) => /^COPY (\S+) (\S+)$/.exec(line)?.slice(1, 3) ?? []);
  const allowed = (await linesOf('.dockerignore')).flatMap((line) => (line.startsWith('!') ? line.slice(1) : []));
  for (let at = 0; at < copies.length; at += 2) {
    const [from = '', to = ''] = copies.slice(at);
    expect(allowed).toContain(from);
    await cp(join(REPOSITORY, from), join(image.path, to), { recursive: true });
  }
  // As with npm ci: no package of ours may need one that is for development only.
  const lock = JSON.parse(await readFile(join(image.path, 'npm-shrinkwrap.json'), 'utf8')) as Lock;
  const packages = Object.keys(lock.packages).filter((path) => path !== '');
  for (const path of packages) await cp(join(REPOSITORY, path), join(image.path, path), { recursive: true });
  const [entry = ''] = stage.flatMap((line) => /^ENTRYPOINT (.*)$/.exec(line)?.[1] ?? []);
  expect(JSON.parse(entry)).toEqual(['node', '/opt/blockjobd/src/main.js']);
  const main = join(image.path, 'src/main.js');
  const { stdout } = await run(process.execPath, [main, 'gateway', '--help']);
  expect(stdout).toContain('serve the VMs of a whole fleet');
  expect((await run(process.execPath, [main, '--version'])).stdout).toContain(` (${revision()})\n`);
  const command = join(image.path, 'bin/blockjob');
  expect(stage).toContain('ENV PATH=/opt/blockjobd/bin:$PATH');
  expect((await run(command, ['--version'])).stdout).toBe(`blockjob ${MANIFEST.version} (${revision()})\n`);
  const probe = await run(process.execPath, [join(image.path, 'deploy/health.js')], { accept: [1] });
  expect(probe.stderr).toContain('ENOENT');
});
