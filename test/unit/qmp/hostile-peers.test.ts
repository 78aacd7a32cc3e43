/**
 * Programs behind QMP sockets that are not QEMUs, and want to harm: the memory that they can make an agent hold
 * together.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { hostilePeer, pour, type Says } from '../../support/hostile/hostile-peer.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../../support/service/service.ts';

const MIB = 1024 * 1024;
const PEERS = 13;
const MOST_RSS_BYTES = 256 * MIB;

const KINDS: readonly Says[] = [
  // A line that does not end.
  async (socket) => await pour(socket, Buffer.alloc(64 * 1024, 'x'), 50 * MIB),
  // A message of many lines that does not end.
  async (socket) => {
    socket.write('{\n');
    await pour(socket, Buffer.from(`"${'x'.repeat(1000)}"\n`.repeat(64)), 50 * MIB);
  },
  // An answer that is many times as large when it has been read.
  async (socket, { id }) => {
    socket.write(`{"id":${JSON.stringify(id)},"return":[{}`);
    await pour(socket, Buffer.from(',{}'.repeat(20_000)), 30 * MIB);
    socket.write(']}\n');
  },
  // An answer to each question with the largest allowed size, which is kept.
  async (socket, { id }) => {
    socket.write(`{"id":${JSON.stringify(id)},"return":{"name":"`);
    await pour(socket, Buffer.alloc(64 * 1024, 'n'), 30 * MIB);
    socket.write('"}}\n');
  },
];

test('peers share one store of memory, and none of it belongs to a QEMU', async () => {
  await using held = new AsyncDisposableStack();
  const dir = held.use(await testDir()).path;
  const honest = held.use(
    await hostilePeer(join(dir, 'honest'), async (socket, { id }) => {
      // As much as the answer of a QEMU with some thousand nodes.
      await pour(socket, Buffer.from(`{"id":${JSON.stringify(id)},"return":"${'n'.repeat(3 * MIB)}"}\n`), 1);
    }),
  );
  const ended: Promise<void>[] = [];
  const hostile = await Promise.all(
    Array.from({ length: PEERS }, async (_, at) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      ended.push(promise);
      const peer = await hostilePeer(join(dir, `hostile${at}`), async (socket, ask) => {
        socket.once('close', resolve);
        await KINDS[at % KINDS.length]?.(socket, ask);
      });
      return held.use(peer);
    }),
  );
  const paths = [join(dir, 'honest'), ...hostile.map((_, at) => join(dir, `hostile${at}`))];
  const child = spawn(process.execPath, [join(REPOSITORY, 'test/support/real-qemu/monitors.ts'), 'shared', ...paths], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  expect(await lines.next()).toMatchObject({ value: 'started' });
  // Each has sent its data, and was disconnected.
  await Promise.all(ended);
  child.stdin.end();
  const said = JSON.parse(String((await lines.next()).value)) as { maxRssBytes: number; connected: readonly string[] };
  if (child.exitCode === null) await once(child, 'exit');
  expect(said.maxRssBytes).toBeLessThan(MOST_RSS_BYTES);
  expect(said.connected).toContain(join(dir, 'honest'));
  expect(honest.connections).toBe(1);
  expect(Math.max(...hostile.map(({ connections }) => connections))).toBeLessThan(12);
});
