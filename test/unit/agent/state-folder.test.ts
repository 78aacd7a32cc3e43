import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StateFolder } from '../../../src/agent/state-folder.ts';
import { run, testDir } from '../../support/qemu.ts';

describe('what a state folder is known by', () => {
  it('is made once, and stays', async () => {
    await using dir = await testDir();
    using state = await StateFolder.take(dir.path);
    const instance = await state.instance();
    expect(await state.instance()).toBe(instance);
    expect(await readFile(join(dir.path, 'instance'), 'utf8')).toBe(`${instance}\n`);
  });

  it.each<[what: string, make: (path: string) => Promise<unknown>]>([
    ['a folder', async (path) => await mkdir(path)],
    ['a FIFO', async (path) => await run('mkfifo', [path])],
    ['too long', async (path) => await writeFile(path, 'x'.repeat(1000))],
  ])('is not made anew where it is %s: the host would be another', async (_what, make) => {
    await using dir = await testDir();
    await make(join(dir.path, 'instance'));
    using state = await StateFolder.take(dir.path);
    await expect(state.instance()).rejects.toThrow(/cannot use .*instance.*registered as a new one/);
  });
});

describe('whose the jobs of a state folder are', () => {
  it('is the same each time, and another for each folder', async () => {
    await using one = await testDir();
    await using two = await testDir();
    using here = await StateFolder.take(one.path);
    using there = await StateFolder.take(two.path);
    const owner = await here.owner();
    expect(owner).toMatch(/^[0-9a-f]{6}$/);
    expect(await here.owner()).toBe(owner);
    expect(await there.owner()).not.toBe(owner);
  });
});

describe('a state folder', () => {
  it.each<[what: string, make: (path: string) => Promise<unknown>]>([
    ['a folder', async (path) => await mkdir(path)],
    ['a FIFO', async (path) => await run('mkfifo', [path])],
    ['no lock of ours', async (path) => await writeFile(path, 'x'.repeat(8192))],
  ])('whose lock is %s is not used, and that is said', async (_what, make) => {
    await using dir = await testDir();
    await make(join(dir.path, 'lock'));
    await expect(StateFolder.take(dir.path)).rejects.toThrow(`cannot use the state folder ${dir.path}: `);
  });
});
