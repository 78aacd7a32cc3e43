/** The commands of README.md are run word for word, one after the other, on a VM with the same name. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { monitorIn, present } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { needs } from '../support/means.ts';
import { makeChain, type Qemu, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const [SERVE = '', COMMANDS = ''] = new DocPage('../README.md').section('Your own VM').commands;
const SERVICE = 'npm run -s blockjobd -- ';

const held = new AsyncDisposableStack();
let folder: string;
let qemu: Qemu;
let service: Service;

/** With this machine's folders instead of those of the page. */
function here(text: string): string {
  const ours = text.replaceAll('/run/qemu', folder).replaceAll('/var/lib/images', folder);
  expect(ours).not.toMatch(/\/var\/|\/run\//);
  return ours;
}

async function shown(script: string): Promise<string> {
  const environment = `set -euo pipefail; cd ${REPOSITORY}; export PATH=${join(REPOSITORY, 'node_modules/.bin')}:$PATH
export BLOCKJOB_ADDRESS=${service.address}\n`;
  return (await run('bash', ['-c', environment + here(script)])).stdout;
}

async function image(): Promise<string> {
  return present((await qemu.admin.block('virtio0')).inserted).file;
}

describe.skipIf(needs('qemu'))('the commands of README.md', () => {
  beforeAll(async () => {
    folder = held.use(await testDir()).path;
    const chain = await makeChain(folder, { formats: ['qcow2', 'qcow2'], sizeBytes: 4 << 20 });
    const disks = [{ id: 'virtio0', bus: 'virtio-blk', chain }] as const;
    qemu = held.use(await startQemu({ style: 'drive', name: 'web1', disks, extraArgs: monitorIn(folder, 'web1') }));
    const serve = here(SERVE).replace(SERVICE, '').split(' ');
    service = held.use(await Service.run([...serve, '--state-dir', join(folder, 'state'), '--listen', '127.0.0.1:0']));
    await service.domainUp('web1');
  });

  afterAll(async () => {
    await held.disposeAsync();
  });

  test('start the programs that they name', async () => {
    expect(SERVE.startsWith(SERVICE)).toBe(true);
    const { scripts } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8')) as {
      readonly scripts: Readonly<Record<string, string>>;
    };
    expect(scripts).toMatchObject({ blockjobd: 'node src/main.ts' });
  });

  test('show the VM and its disk, and copy it with a pivot', async () => {
    const text = await shown(COMMANDS);
    expect(text).toMatch(/web1[^]*virtio0[^]*web1-new\.qcow2/);
    expect(await image()).toBe(here('/var/lib/images/web1-new.qcow2'));
  });
});
