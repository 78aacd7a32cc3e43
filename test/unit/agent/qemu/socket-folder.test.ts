/** The folder of monitors: its sockets are looked at when it changes, and not otherwise. */
import { once } from 'node:events';
import { rename, symlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { SocketFolder } from '../../../../src/agent/qemu/socket-folder.ts';
import { type TestDir, testDir } from '../../../support/real-qemu/qemu.ts';

const asked: string[] = [];
vi.mock(import('node:fs/promises'), async (original) => {
  const fs = await original();
  const stat = ((path: string, options: object) => {
    asked.push(path);
    return fs.stat(path, options);
  }) as typeof fs.stat;
  return { ...fs, stat };
});

const SECOND_MS = 1000;
const servers: Server[] = [];
let dir: TestDir;
let nowMs = 0;

beforeEach(async () => {
  dir = await testDir();
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const server of servers.splice(0)) server.close();
  await dir[Symbol.asyncDispose]();
});

async function listen(name: string): Promise<string> {
  const path = join(dir.path, name);
  const server = createServer().listen(path);
  servers.push(server);
  await once(server, 'listening');
  return path;
}

function open(...named: readonly string[]): SocketFolder {
  const logger = pino({ level: 'silent' });
  return new SocketFolder({ folder: dir.path, named: named.map((socketPath) => ({ socketPath })), logger });
}

/** The sockets, and the paths that were asked for. */
async function look(folder: SocketFolder, afterMs = 2 * SECOND_MS) {
  nowMs += afterMs;
  asked.splice(0);
  return { found: [...(await folder.sockets()).keys()], asked: [...asked] };
}

it('a folder without changes is asked for itself alone', async () => {
  const [a, b] = [await listen('a'), await listen('b')];
  const folder = open();
  expect(await look(folder)).toEqual({ found: [a, b], asked: [dir.path, a, b] });
  expect(await look(folder)).toEqual({ found: [a, b], asked: [dir.path, a, b] });
  expect(await look(folder)).toEqual({ found: [a, b], asked: [dir.path] });
  expect(await look(folder)).toEqual({ found: [a, b], asked: [dir.path] });
});

it('a second look right after the first may miss a change of the same moment, so it is not the last', async () => {
  const a = await listen('a');
  const folder = open();
  await look(folder);
  expect((await look(folder, SECOND_MS / 2)).asked).toEqual([dir.path, a]);
  expect((await look(folder, SECOND_MS)).asked).toEqual([dir.path, a]);
  expect((await look(folder, SECOND_MS)).asked).toEqual([dir.path]);
});

it('a socket that comes, goes or is replaced is seen at the next look', async () => {
  const a = await listen('a');
  const folder = open();
  for (let looks = 0; looks < 3; looks += 1) await look(folder);
  const b = await listen('b');
  expect((await look(folder)).found).toEqual([a, b]);
  for (let looks = 0; looks < 3; looks += 1) await look(folder);
  const before = (await folder.sockets()).get(a);
  await rename(b, a);
  expect((await look(folder)).found).toEqual([a]);
  expect((await folder.sockets()).get(a)).not.toBe(before);
});

it('after a report of a change each socket is looked at', async () => {
  const a = await listen('a');
  const folder = open();
  for (let looks = 0; looks < 3; looks += 1) await look(folder);
  folder.changed();
  expect((await look(folder)).asked).toEqual([dir.path, a]);
});

it('each socket is looked at every time if one of them may be replaced elsewhere', async () => {
  const a = await listen('a');
  const named = open(a);
  for (let looks = 0; looks < 4; looks += 1) expect((await look(named)).asked).toContain(a);
  await symlink(a, join(dir.path, 'link'));
  const linked = open();
  for (let looks = 0; looks < 4; looks += 1) expect((await look(linked)).asked).toContain(a);
});
