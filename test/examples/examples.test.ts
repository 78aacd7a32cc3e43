/**
 * The examples, built from the published contract alone, against the real service and a real QEMU. The service is
 * killed in the middle of each watch, and started again: no entry of the journal is missed, and none comes twice.
 */
import { cp, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { needs, PYTHON } from '../support/means.ts';
import { type ChainImage, makeChain, type Qemu, run, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';
import { type Example, Running } from './running.ts';

const MIB = 1 << 20;
/** A slow copy, which does not end before its limit is raised. */
const SLOW = String(64 * 1024);
const EXAMPLES = join(REPOSITORY, 'examples');
const CACHE = join(REPOSITORY, '.cache/examples');
/** The published files, and nothing else of this repository. */
const PROTO = join(REPOSITORY, 'dist/blockjobd/proto');

const EXAMPLE: Readonly<Record<string, Example>> = {
  python: { program: PYTHON, args: [join(EXAMPLES, 'python/copy_disk.py')], env: { STUBS: join(CACHE, 'python') } },
  go: { program: join(CACHE, 'copydisk'), args: [] },
  node: { program: process.execPath, args: [join(CACHE, 'node/copy-disk.js')] },
  shell: { program: 'bash', args: [join(EXAMPLES, 'shell/copy-disk.sh')], env: { PROTO } },
};

/** The Debian packages that a text names. */
function packagesIn(text: string): string[] | undefined {
  return text
    .match(/\b(?:(?:default|golang|libprotobuf|protobuf|protoc)-[a-z0-9.-]*[a-z0-9]|lib[a-z0-9.-]+-java)\b/g)
    ?.toSorted();
}

describe.skipIf(needs('qemu', 'python-grpc', 'go-grpc', 'by-hand'))('an example', () => {
  const opened = new AsyncDisposableStack();
  let dir: string;
  let qemu: Qemu;
  let chain: readonly ChainImage[];
  let service: Service;
  let listen: string;
  const start = async () => {
    service = await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir], listen });
    await service.domainUp('vm1');
  };

  beforeAll(async () => {
    await mkdir(CACHE, { recursive: true });
    await run(join(EXAMPLES, 'python/generate.sh'), [PROTO, join(CACHE, 'python')]);
    await run(join(EXAMPLES, 'go/build.sh'), [PROTO, join(CACHE, 'copydisk')]);
    // As npm installs it, except for the registry: the client's dependencies are those of this repository.
    await rm(join(CACHE, 'node'), { recursive: true, force: true });
    await cp(join(EXAMPLES, 'node'), join(CACHE, 'node'), { recursive: true });
    await cp(join(REPOSITORY, 'dist/blockjobd-client'), join(CACHE, 'node/node_modules/blockjobd-client'), {
      recursive: true,
    });
    ({ path: dir } = opened.use(await testDir()));
    chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 8 * MIB });
    qemu = opened.use(
      await startQemu({ style: 'blockdev', name: 'vm1', disks: [{ id: 'vd0', bus: 'virtio-blk', chain }] }),
    );
    listen = `127.0.0.1:${await freePort()}`;
    await start();
    opened.defer(async () => await service.kill());
  });
  afterAll(async () => await opened.disposeAsync());

  test.each(Object.keys(EXAMPLE))(
    'in %s copies, watches through a restart, pivots, and prints the outcome',
    async (name) => {
      const destination = join(dir, `${name}.qcow2`);
      const before = (await qemu.admin.block('vd0')).inserted?.file;
      using example = new Running(present(EXAMPLE[name]), [service.address, 'vm1', 'vd0', destination, SLOW]);
      const id = present(/copy (\S+) has started/.exec(await example.says(/has started/))?.[1]);
      await example.says(/STATE_RUNNING/);
      await example.says(/^\d+\.\d %$/);
      await service.kill();
      const away = await example.says(/the service is away; coming back after revision \d+/);
      const last = Number(/\d+$/.exec(away)?.[0]);
      await start();
      await service.setSpeed(id, 0n);
      expect(await within(60_000, 'the end of the example', example.ended)).toBe(0);

      const revisions = example.lines.flatMap((line) => /^revision (\d+):/.exec(line)?.[1] ?? []).map(Number);
      expect(revisions).toEqual(revisions.map((_, index) => index + 1));
      expect(revisions.length).toBeGreaterThan(last);
      const { job } = present(await service.until(id, 'STATE_COMPLETED'));
      expect(revisions.at(-1)).toBe(Number(job?.revision));
      expect(example.lines).toContain(`STATE_COMPLETED: the guest writes to ${destination}`);
      expect(example.lines).toContain('the destination is DESTINATION_CONTENT_COMPLETE');
      expect(example.lines).toContain(`start the VM next time with ${destination}`);
      expect(example.lines.join('\n')).toContain(`safe to delete: ${before} (`);
      expect((await qemu.admin.block('vd0')).inserted?.file).toBe(destination);
    },
  );

  test.each(Object.keys(EXAMPLE))('in %s says why a call is refused', async (name) => {
    using example = new Running(present(EXAMPLE[name]), [service.address, 'nobody', 'vd0', join(dir, 'x')]);
    expect(await within(30_000, 'the end of the example', example.ended)).toBe(1);
    expect(example.lines[0]).toMatch(/^refused: DOMAIN_NOT_FOUND: .*"nobody"/);
    expect(example.lines[1]).toMatch(/^reason DOMAIN_NOT_FOUND .*nobody/);
    expect(example.lines.join('\n')).not.toMatch(/Traceback|goroutine|^ +at /m);
  });

  test('in go says that nothing was changed only if that is known', async () => {
    using refused = new Running(present(EXAMPLE['go']), [service.address, 'nobody', 'vd0', join(dir, 'x')]);
    expect(await within(30_000, 'the end of the example', refused.ended)).toBe(1);
    expect(refused.lines.at(-1)).toBe('nothing was changed by that call');
    const other = new Server();
    const bind = promisify(other.bindAsync.bind(other));
    using _end = { [Symbol.dispose]: () => other.forceShutdown() };
    const port = await bind('127.0.0.1:0', ServerCredentials.createInsecure());
    using example = new Running(present(EXAMPLE['go']), [`127.0.0.1:${port}`, 'vm1', 'vd0', join(dir, 'x')]);
    expect(await within(30_000, 'the end of the example', example.ended)).toBe(1);
    expect(example.lines[0]).toMatch(/^refused: /);
    expect(example.lines.at(-1)).toMatch(/may have been done/);
  });

  test.each([
    ['Go', 'go'],
    ['Java', 'java'],
  ])('in %s names the same Debian packages on its page and in its build', async (language, folder) => {
    const page = await readFile(join(EXAMPLES, 'README.md'), 'utf8');
    const build = await readFile(join(EXAMPLES, folder, 'build.sh'), 'utf8');
    const row = page.split('\n').find((line) => line.startsWith(`| ${language}:`)) ?? '';
    const [comment = ''] = /^#!.*\n(?:#.*\n)+/.exec(build) ?? [];
    expect(packagesIn(comment)).toEqual(packagesIn(row));
    expect(packagesIn(row)?.length).toBeGreaterThan(5);
  });
});
