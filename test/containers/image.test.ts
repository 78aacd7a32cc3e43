/** The image of deploy/Dockerfile is built and run as README and docs/install.md say, and serves a VM of this machine. */
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { revision } from '../../build/places.ts';
import { linuxNode } from '../../build/published.ts';
import { monitorIn } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { eventuallyAnswers } from '../support/docker/eventually-answers.ts';
import { docker } from '../support/docker/images.ts';
import { BASE_IMAGE, needs } from '../support/means.ts';
import { makeChain, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

const IN_README = new DocPage('../README.md').section('Two minutes').commands[1] ?? '';
const [IN_INSTALL = '', SERVE = '', ASK = ''] = new DocPage('install.md').section('Container image').commands;
const BUILD_MS = 400_000;
const START_MS = 30_000;
const NAME = `bj-image-test-${process.pid}`;
/** It stands for the image that the page names, which comes from a registry. */
const BASE = 'blockjobd-test-node:24';

const held = new AsyncDisposableStack();
let folder: string;

/** Runs the commands of the page, with other folders, names and base image. */
async function shown(script: string): Promise<string> {
  const ours = script
    .replaceAll('/run/qemu', folder)
    .replaceAll('/var/lib/images', folder)
    .replaceAll('/var/lib/blockjobd', join(folder, 'state'))
    .replaceAll('--name blockjobd', `--name ${NAME}`)
    .replaceAll('docker exec blockjobd', `docker exec ${NAME}`)
    .replace('docker build ', `docker build --network host --build-arg BASE=${BASE} `)
    .replaceAll('blockjobd:0.1.0', `${NAME}:0.1.0`);
  const path = `export PATH=${join(REPOSITORY, 'node_modules/.bin')}:$PATH; cd ${REPOSITORY}\n`;
  return (await run('bash', ['-euo', 'pipefail', '-c', path + ours], { timeoutMs: BUILD_MS })).stdout;
}

/**
 * Node as in the published image, on the Debian of all test images; and the settings that lead to the registry from
 * here.
 */
async function makeBase(): Promise<void> {
  const context = join(folder, 'base');
  await mkdir(context);
  await cp(join(linuxNode(process.arch), 'bin/node'), join(context, 'node'));
  const certificates = process.env['NODE_EXTRA_CA_CERTS'] ?? '';
  await writeFile(join(context, 'certificates'), certificates === '' ? '' : await readFile(certificates));
  const lines = [
    `FROM ${BASE_IMAGE}`,
    'RUN apt-get update && apt-get install -y --no-install-recommends npm && rm -rf /var/lib/apt/lists/*',
    'COPY node /usr/local/bin/node',
    ...(certificates === ''
      ? []
      : ['COPY certificates /certificates', 'ENV NODE_EXTRA_CA_CERTS=/certificates npm_config_cafile=/certificates']),
  ];
  await writeFile(join(context, 'Dockerfile'), lines.join('\n'));
  await run('docker', ['build', '--network', 'host', '--tag', BASE, context], { timeoutMs: BUILD_MS });
}

describe.skipIf(needs('docker', 'qemu'))('the image of deploy/Dockerfile', () => {
  beforeAll(async () => {
    folder = held.use(await testDir()).path;
    await makeBase();
  }, BUILD_MS);

  afterAll(async () => {
    await run('docker', ['rm', '--force', NAME], { accept: [0, 1] });
    await run('docker', ['image', 'rm', '--force', `${NAME}:0.1.0`], { accept: [0, 1] });
    await held.disposeAsync();
  });

  test('is built and run as README says', { timeout: BUILD_MS }, async () => {
    expect(await shown(IN_README)).toMatch(new RegExp(`^blockjobd \\S+ \\(${revision()}\\)$`, 'm'));
    expect(IN_README.startsWith(IN_INSTALL)).toBe(true);
  });

  test('serves the VMs of its machine as docs/install.md says', async () => {
    const chain = await makeChain(folder, { formats: ['qcow2'], sizeBytes: 4 << 20 });
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    await using qemu = await startQemu({
      style: 'blockdev',
      name: 'web1',
      disks,
      extraArgs: monitorIn(folder, 'web1'),
    });
    await shown(SERVE);
    await eventuallyAnswers('the service shows the VM', START_MS, async () => {
      return /^web1 /m.test(await shown(ASK)) || undefined;
    });
    const copy = join(folder, 'copy.qcow2');
    await docker('exec', NAME, 'blockjob', 'copy', 'web1', 'vd0', copy, '--wait', '--pivot');
    expect((await qemu.admin.block('vd0')).inserted?.file).toBe(copy);
  });
});
