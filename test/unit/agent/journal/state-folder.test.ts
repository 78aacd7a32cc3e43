import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, lchown, link, lstat, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StateFolder } from '../../../../src/agent/journal/state-folder.ts';
import { run, testDir } from '../../../support/real-qemu/qemu.ts';

describe('the identity of a state folder', () => {
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
  ])('is not made again if it is %s: the host would be another', async (_what, make) => {
    await using dir = await testDir();
    await make(join(dir.path, 'instance'));
    using state = await StateFolder.take(dir.path);
    await expect(state.instance()).rejects.toThrow(/cannot use .*instance.*registered as a new one/);
  });
});

describe('the owner of the jobs of a state folder', () => {
  it('is the same each time, and differs between folders', async () => {
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
  ])('with a lock that is %s is not used, and an error says so', async (_what, make) => {
    await using dir = await testDir();
    await make(join(dir.path, 'lock'));
    await expect(StateFolder.take(dir.path)).rejects.toThrow(`cannot use the state folder ${dir.path}: `);
  });
});

const AS_ROOT = process.getuid?.() === 0;
if (!AS_ROOT) console.warn('NOT TESTED, AS IT TAKES ROOT: state folders in which other users have a say');
const OTHER_USER = 12_345;

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

async function refusalOf(folder: string): Promise<string> {
  return await StateFolder.take(folder).then(
    (state) => {
      state[Symbol.dispose]();
      return 'taken';
    },
    (error: unknown) => String(error),
  );
}

/** Another user's process that has locked it, and keeps the lock. */
async function holdingTheLock(path: string): Promise<AsyncDisposable> {
  const script = `
    const lock = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
    process.setuid(${OTHER_USER});
    lock.exec('BEGIN; SELECT * FROM sqlite_master');
    console.log('held');
    process.stdin.resume();`;
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['pipe', 'pipe', 'ignore'] });
  await once(child.stdout, 'data');
  return {
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

describe('a state folder that was open to others', () => {
  it.each([0o755, 0o777])('with mode %o is closed to them, and so is all that it needs in it', async (mode) => {
    await using dir = await testDir();
    const at = (name: string) => join(dir.path, name);
    for (const name of ['jobs', 'holds']) await mkdir(at(name));
    for (const name of ['lock', 'instance']) await writeFile(at(name), '');
    const all = [dir.path, ...['lock', 'instance', 'jobs', 'holds'].map(at)];
    for (const path of all) await chmod(path, mode);
    using state = await StateFolder.take(dir.path);
    expect(state.wasOpen).toEqual(all);
    for (const path of all) expect(await modeOf(path)).toBe(mode & 0o700);
  });

  it('is made closed, whatever the umask, and nothing is logged about it', async () => {
    await using dir = await testDir();
    const before = process.umask(0);
    try {
      const folder = join(dir.path, 'state');
      using state = await StateFolder.take(folder);
      expect(state.wasOpen).toEqual([]);
      expect([await modeOf(folder), await modeOf(join(folder, 'lock'))]).toEqual([0o700, 0o600]);
    } finally {
      process.umask(before);
    }
  });

  it('may be a link of ours; its lock may not be a link, nor a second name of something', async () => {
    await using dir = await testDir();
    const at = (name: string) => join(dir.path, name);
    await mkdir(at('state'));
    await symlink('state', at('link'));
    expect(await refusalOf(at('link'))).toBe('taken');
    await writeFile(at('file'), '');
    await chmod(at('file'), 0o644);
    for (const make of [symlink, link]) {
      const folder = at(`with-a-${make.name}`);
      await mkdir(folder);
      await make(at('file'), join(folder, 'lock'));
      expect(await refusalOf(folder)).toMatch(/cannot use the state folder .*: its lock is not a plain file/);
    }
    expect(await modeOf(at('file'))).toBe(0o644);
  });

  it.skipIf(!AS_ROOT)(
    'is not used if another user owns it, the link to it, its lock or its journals, and says so',
    async () => {
      await using dir = await testDir();
      const at = (name: string) => join(dir.path, name);
      const belongs =
        /cannot use the state folder .* belongs to user 12345, and this is user 0: run blockjobd as that user/;
      await mkdir(at('theirs'));
      await chown(at('theirs'), OTHER_USER, OTHER_USER);
      expect(await refusalOf(at('theirs'))).toMatch(belongs);
      await mkdir(at('ours'));
      await symlink('ours', at('link'));
      await lchown(at('link'), OTHER_USER, OTHER_USER);
      expect(await refusalOf(at('link'))).toMatch(/it is a link that belongs to user 12345/);
      for (const name of ['lock', 'jobs']) {
        await mkdir(at(`ours/${name}`));
        await chown(at(`ours/${name}`), OTHER_USER, OTHER_USER);
        expect(await refusalOf(at('ours'))).toMatch(new RegExp(`: ${name} belongs to user 12345`));
        await chown(at(`ours/${name}`), 0, 0);
        if (name === 'lock') await run('rmdir', [at('ours/lock')]);
      }
      expect((await lstat(at('ours/jobs'))).uid).toBe(0);
    },
  );

  it.skipIf(!AS_ROOT)('names the process of another user that has locked it since then', async () => {
    await using dir = await testDir();
    await writeFile(join(dir.path, 'lock'), '');
    await chmod(dir.path, 0o755);
    await using _held = await holdingTheLock(join(dir.path, 'lock'));
    expect(await refusalOf(dir.path)).toMatch(/pid \d+ \(.*\) of user 12345 holds its lock since the folder was open/);
  });
});
