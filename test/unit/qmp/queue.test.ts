// The look at the connections of a server, for many at once.

import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { Queue } from '../../../src/qmp/queue.ts';
import { ScriptedQmp } from '../../support/fake-qemu/scripted-qmp.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';

const read: string[] = [];
vi.mock(import('node:fs/promises'), async (original) => {
  const fs = await original();
  const readFile = ((path: string, options: object) => {
    read.push(path);
    return fs.readFile(path, options);
  }) as typeof fs.readFile;
  return { ...fs, readFile };
});

it('all who ask before a reading begins share it, and each gets the state of its own server', async () => {
  await using dir = await testDir();
  const paths = ['one', 'other'].map((name) => join(dir.path, name));
  const [one = '', other = ''] = paths;
  await using _one = await ScriptedQmp.listen(one);
  await using _other = await ScriptedQmp.listen(other);
  const queues = Array.from({ length: 50 }, (_, at) => new Queue(at % 2 === 0 ? one : other));
  read.splice(0);
  await Promise.all(queues.map(async (queue) => await queue.look()));
  // Links in the paths are followed first, so that some may come after the first reading has begun.
  expect(read.length).toBeLessThanOrEqual(5);
  const client = connect(one);
  try {
    await once(client, 'connect');
    await vi.waitUntil(async () => await queues[0]?.isPassed());
    const passed = await Promise.all(queues.map(async (queue) => await queue.isPassed()));
    expect(passed).toEqual(queues.map((_, at) => at % 2 === 0));
  } finally {
    client.destroy();
  }
});
