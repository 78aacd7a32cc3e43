/** The image of deploy/Dockerfile, as a folder: what is copied into it is all that the service needs to run. */
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, testDir } from '../support/qemu.ts';
import { REPOSITORY } from '../support/service.ts';

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

async function linesOf(name: string): Promise<readonly string[]> {
  return (await readFile(join(REPOSITORY, name), 'utf8')).split('\n');
}

test('the service runs on what is in the image', async () => {
  await using image = await testDir();
  const all = await linesOf('deploy/Dockerfile');
  const stage = all.slice(all.findLastIndex((line) => line.startsWith('FROM ')));
  const copies = stage.flatMap((line) => /^COPY (\S+) (\S+)$/.exec(line)?.slice(1, 3) ?? []);
  const allowed = (await linesOf('.dockerignore')).flatMap((line) => (line.startsWith('!') ? line.slice(1) : []));
  for (let at = 0; at < copies.length; at += 2) {
    const [from = '', to = ''] = copies.slice(at);
    expect(allowed).toContain(from);
    await cp(join(REPOSITORY, from), join(image.path, to.endsWith('/') ? from : to), { recursive: true });
  }
  const lock = JSON.parse((await linesOf('package-lock.json')).join('\n')) as Lock;
  // As npm ci --omit=dev: no package of ours may need one that is for development only.
  const packages = Object.entries(lock.packages).flatMap(([path, { dev }]) =>
    path !== '' && dev !== true ? path : [],
  );
  for (const path of packages) await cp(join(REPOSITORY, path), join(image.path, path), { recursive: true });
  const [entry = ''] = stage.flatMap((line) => /^ENTRYPOINT (.*)$/.exec(line)?.[1] ?? []);
  expect(JSON.parse(entry)).toEqual(['node', '/opt/blockjobd/src/main.ts']);
  const { stdout } = await run(process.execPath, [join(image.path, 'src/main.ts'), 'gateway', '--help']);
  expect(stdout).toContain('serve the VMs of a whole fleet');
  const probe = await run(process.execPath, [join(image.path, 'deploy/health.ts')], { accept: [1] });
  expect(probe.stderr).toContain('ENOENT');
});
