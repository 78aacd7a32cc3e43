/**
 * Files of two file systems may have the same number. One of the file systems hangs: the other's files are looked for
 * without asking it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { processWith } from '../../src/agent/host/open-files.ts';
import { eventually } from '../support/checks.ts';
import { FuseFile } from '../support/images/fuse-file.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';

/** A process that has the file open for writing. */
async function holder(path: string): Promise<AsyncDisposable> {
  const child = spawn('bash', ['-c', 'exec 3<>"$0"; echo open; exec sleep infinity', path]);
  await once(child.stdout, 'data');
  return {
    [Symbol.asyncDispose]: async () => {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

describe.skipIf(needs('qemu', 'fuse'))('two files with the same number', () => {
  test('a process that has the one on storage that hangs does not keep the search for the other one waiting', async () => {
    await using dir = await testDir();
    const [sound, hung] = [join(dir.path, 'sound'), join(dir.path, 'hung')];
    for (const path of [sound, hung]) await writeFile(`${path}.raw`, Buffer.alloc(65_536));
    await using _sound = await FuseFile.over(`${sound}.raw`, sound);
    await using _holdsSound = await holder(sound);
    await using hangs = await FuseFile.over(`${hung}.raw`, hung);
    await using _holdsHung = await holder(hung);
    expect((await stat(sound)).ino).toBe((await stat(hung)).ino);
    // The processes that have its file open can only end when it is back.
    using _hung = hangs.hang();
    // The kernel remembers the last answer for a moment.
    await eventually('the file system hangs', async () => {
      const { signal } = spawnSync('stat', [hung], { timeout: 1000, killSignal: 'SIGKILL' });
      return await Promise.resolve(signal === 'SIGKILL' ? true : undefined);
    });
    expect(await processWith(sound)).toMatch(/^pid \d+ \(sleep\)$/);
  });
});
