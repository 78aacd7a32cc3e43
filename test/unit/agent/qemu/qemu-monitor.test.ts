/** A QEMU is known by its monitor only if nobody else can have the same: not by the path of the socket. */
import { once } from 'node:events';
import { rename } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSameMonitor, monitorAt } from '../../../../src/agent/qemu/qemu-monitor.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

async function listening(path: string) {
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

describe('the monitor of a QEMU', () => {
  it('is the same as long as its socket listens, also under another name', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using _server = await listening(path);
    const before = await monitorAt(path, 7);
    expect(isSameMonitor(before, await monitorAt(path, 7))).toBe(true);
    await rename(path, `${path}2`);
    expect(isSameMonitor(before, await monitorAt(`${path}2`, 7))).toBe(true);
    expect(await monitorAt(path, 7)).toBeUndefined();
  });

  it('is another one after the next start at that path, though the file system gives the same inode again', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    const start = async () => {
      await using _server = await listening(path);
      return await monitorAt(path, 7);
    };
    const before = await start();
    expect(before).toBeDefined();
    expect(isSameMonitor(before, await start())).toBe(false);
  });

  it('is another one with another thread, and unknown monitors are not the same', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using _server = await listening(path);
    expect(isSameMonitor(await monitorAt(path, 7), await monitorAt(path, 8))).toBe(false);
    expect(isSameMonitor(undefined, undefined)).toBe(false);
  });
});
