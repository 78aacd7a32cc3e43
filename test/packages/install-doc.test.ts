/** docs/install.md and docs/clients.md: their commands and examples are run word for word on a view of this machine. */
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { revision } from '../../build/places.ts';
import { present } from '../support/checks.ts';
import { DocPage, fencedIn } from '../support/doc-page.ts';
import { needs } from '../support/means.ts';
import { makeChain, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const PACKAGES = join(REPOSITORY, 'dist/packages');
const INSTALL = new DocPage('install.md');
const README = new DocPage('../README.md');

/** Runs the first commands of a section, in a folder, as root; their changes are gone afterwards. */
async function shown(heading: string, folder: string, page = INSTALL): Promise<string> {
  const [script = ''] = page.section(heading).commands;
  const path = `export PATH=${dirname(process.execPath)}:$PATH DEBIAN_FRONTEND=noninteractive`;
  const inside = ['bash', '-euo', 'pipefail', '-c', `${path}; cd ${folder}; ${script}`];
  return (await run(join(import.meta.dirname, 'chroot.sh'), inside)).stdout;
}

describe.skipIf(needs('packages', 'by-hand'))('docs/install.md', () => {
  const build = `(${revision()})`;

  test('Debian', async () => {
    expect(await shown('Debian', PACKAGES)).toMatch(new RegExp(`^blockjobd \\S+ \\(${revision()}\\)$`, 'm'));
  });

  test('npm', async () => {
    expect(await shown('npm', PACKAGES)).toContain(build);
  });

  test('from sources', async () => {
    const said = await shown('From sources', REPOSITORY);
    expect(said).toContain(build);
    expect(said).toContain('(dev)');
  });

  test('README, on another Linux', async () => {
    expect(await shown('Two minutes', REPOSITORY, README)).toMatch(
      new RegExp(`^blockjobd \\S+ \\(${revision()}\\)$`, 'm'),
    );
  });

  test('verify your installation', async () => {
    const said = await shown('Verify what you have', PACKAGES);
    expect(said).toMatch(/^blockjobd_\S+\.deb: OK$/m);
    expect(said).toMatch(/^@grpc\/grpc-js \d/m);
  });
});

test.skipIf(needs('qemu'))('the client of docs/clients.md copies a disk', async () => {
  await using dir = await testDir();
  const folder = join(REPOSITORY, '.cache/client-of-docs');
  await mkdir(folder, { recursive: true });
  await cp(join(REPOSITORY, 'dist/blockjobd-client'), join(folder, 'node_modules/blockjobd-client'), {
    recursive: true,
  });
  const chain = await makeChain(dir.path, { formats: ['qcow2'], sizeBytes: 4 << 20 });
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  await using qemu = await startQemu({ style: 'blockdev', name: 'vm1', disks });
  const listen = '127.0.0.1:0';
  await using service = await Service.start({ dir: dir.path, qmp: { vm1: qemu.qmpPath }, allow: [dir.path], listen });
  await service.domainUp('vm1');
  const copy = join(dir.path, 'copy.qcow2');
  const text = present(fencedIn(new DocPage('clients.md').section('Node').text, 'js')[0])
    .replace('127.0.0.1:50051', service.address)
    .replace("'web1'", "'vm1'")
    .replace("'virtio0'", "'vd0'")
    .replace('/var/lib/images/web1-new.qcow2', copy);
  await writeFile(join(folder, 'copy.mjs'), text);
  expect((await run(process.execPath, [join(folder, 'copy.mjs')])).stdout).toMatch(/^\d+n /m);
  expect((await qemu.admin.block('vd0')).inserted?.file).toBe(copy);
});
