import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { findListener, isAlive } from '../../../src/agent/qemu-process.ts';
import { PYTHON } from '../../support/means.ts';
import { testDir } from '../../support/qemu.ts';

interface Listener extends AsyncDisposable {
  readonly pid: number;
  readonly child: ChildProcess;
  kill(): Promise<void>;
}

const LISTEN = `
  const net = require('node:net');
  const paths = process.argv.slice(1);
  let left = paths.length;
  for (const path of paths) require('node:fs').rmSync(path, { force: true });
  for (const path of paths) net.createServer().listen(path, () => --left === 0 && console.log('listening'));
`;

/** A process of its own that listens on these sockets, as QEMU does on its monitors. */
async function listenAt(folder: string, ...paths: readonly string[]): Promise<Listener> {
  const child = spawn(process.execPath, ['-e', LISTEN, ...paths], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  await once(createInterface({ input: child.stdout }), 'line');
  const { pid } = child;
  if (pid === undefined) throw new Error('the listener has no pid');
  const kill = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  return { pid, child, kill, [Symbol.asyncDispose]: kill };
}

/** As ProcSubset=pid does. It takes root. */
const HIDE = 'mount -t proc -o subset=pid proc /proc';
const CAN_HIDE = spawnSync('unshare', ['-m', 'sh', '-c', HIDE]).status === 0;

describe('the process behind a socket', () => {
  it('is found with its start, its folder and its owner', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using listener = await listenAt('/', path);
    const stat = readFileSync(`/proc/${listener.pid}/stat`, 'utf8');
    expect(await findListener(path)).toEqual({
      process: { pid: listener.pid, startTime: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] },
      workingDirectory: '/',
      owner: { uid: process.geteuid?.(), gid: process.getegid?.() },
    });
  });

  it('is found though it gave the socket a name relative to its own folder', async () => {
    await using dir = await testDir();
    await using listener = await listenAt(dir.path, 'qmp.sock');
    expect(await findListener(join(dir.path, 'qmp.sock'))).toMatchObject({
      process: { pid: listener.pid },
      workingDirectory: readlinkSync(`/proc/${listener.pid}/cwd`),
    });
  });

  it('is not taken for another that gave its socket the same name', async () => {
    await using dir = await testDir();
    const folders = ['a', 'b', 'c'].map((name) => join(dir.path, name));
    await Promise.all(folders.map(async (folder) => await mkdir(folder)));
    await using resources = new AsyncDisposableStack();
    for (const folder of folders) {
      const { pid } = resources.use(await listenAt(folder, 'qmp.sock'));
      expect((await findListener(join(folder, 'qmp.sock')))?.process.pid).toBe(pid);
    }
    expect(await findListener(resolve(dir.path, 'qmp.sock'))).toBeUndefined();
  });

  it('is found in a folder whose name has spaces, and for a name that has', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'vm 1.sock');
    await using listener = await listenAt('/', path);
    expect((await findListener(path))?.process.pid).toBe(listener.pid);
  });

  // As a QEMU with a monitor for us and one for its administrator has.
  it('is found for each of its sockets, though their names end alike', async () => {
    await using dir = await testDir();
    const paths = [join(dir.path, 'admin-qmp.sock'), join(dir.path, 'qmp.sock')];
    await using listener = await listenAt('/', ...paths);
    for (const path of paths) expect((await findListener(path))?.process.pid).toBe(listener.pid);
  });

  // Both say of themselves that they listen there, and only one of them can be reached.
  it('is the one that took the name over from another that lives on', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using resources = new AsyncDisposableStack();
    for (const _ of [1, 2, 3]) {
      const { pid } = resources.use(await listenAt('/', path));
      expect((await findListener(path))?.process.pid).toBe(pid);
    }
  });

  // As /var/run and /run are.
  it('is found though one of the two names leads over a symbolic link', async () => {
    await using dir = await testDir();
    await mkdir(join(dir.path, 'run'));
    await symlink('run', join(dir.path, 'var-run'));
    await using listener = await listenAt('/', join(dir.path, 'run', 'qmp.sock'));
    expect((await findListener(join(dir.path, 'var-run', 'qmp.sock')))?.process.pid).toBe(listener.pid);
  });

  it('is nobody for a socket that nobody has made, or of which only the file is left', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    expect(await findListener(path)).toBeUndefined();
    const listener = await listenAt('/', path);
    await listener.kill();
    expect(await findListener(path)).toBeUndefined();
  });

  it.skipIf(!CAN_HIDE)(
    'is found where /proc shows processes and nothing else, as under our unit of systemd',
    async () => {
      await using dir = await testDir();
      const path = join(dir.path, 'hidden.sock');
      await using listener = await listenAt(dir.path, path);
      const module = JSON.stringify(resolve('src/agent/qemu-process.ts'));
      const ask = `import(${module}).then(async (it) => console.log((await it.findListener('${path}'))?.process.pid))`;
      const inside = ['-m', 'sh', '-c', `${HIDE} && exec "$0" -e "$1"`, process.execPath, ask];
      expect(spawnSync('unshare', inside, { encoding: 'utf8' }).stdout).toBe(`${listener.pid}\n`);
    },
  );

  it('may be this process', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    const server = createServer();
    await once(server.listen(path), 'listening');
    expect((await findListener(path))?.process.pid).toBe(process.pid);
    server.close();
    await once(server, 'close');
  });
});

// Only a parent that does not ask how its child has ended has a zombie; Node always asks.
const HAS_PYTHON = spawnSync(PYTHON, ['--version']).status === 0;
if (!HAS_PYTHON) console.warn('NOT TESTED, AS PYTHON IS MISSING: processes that have ended and are zombies');

describe('a process', () => {
  it('is alive until it is killed, and another of the same pid is another', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using listener = await listenAt('/', path);
    const { process: found } = (await findListener(path)) ?? { process: { pid: 0, startTime: '' } };
    expect(await isAlive(found)).toBe(true);
    expect(await isAlive({ ...found, startTime: `${Number(found.startTime) + 1}` })).toBe(false);
    await listener.kill();
    expect(await isAlive(found)).toBe(false);
  });

  it('is known though its own name looks like the fields behind it', async () => {
    const script = `require('node:fs').writeFileSync('/proc/self/comm', 'a) Z 1 (b'); console.log('renamed');`;
    const child = spawn(process.execPath, ['-e', `${script} process.stdin.resume()`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    await once(createInterface({ input: child.stdout }), 'line');
    const pid = child.pid ?? 0;
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    expect(stat).toContain('(a) Z 1 (b)');
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    expect(await isAlive({ pid, startTime })).toBe(true);
    child.stdin.end();
    await exited;
  });

  const ZOMBIE = `
import os, sys
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.read(reader, 1)
    os._exit(0)
start = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[19]
print(pid, start, flush=True)
sys.stdin.readline()
os.write(writer, b'x')
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print('a zombie', flush=True)
sys.stdin.readline()
`;
  it.skipIf(!HAS_PYTHON)('is dead when nobody has taken note of its death yet', async () => {
    const child = spawn(PYTHON, ['-c', ZOMBIE], { stdio: ['pipe', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const lines = createInterface({ input: child.stdout });
    const [first] = (await once(lines, 'line')) as [string];
    const [pid = '', startTime = ''] = first.split(' ');
    const found = { pid: Number(pid), startTime };
    expect(await isAlive(found)).toBe(true);
    const zombie = once(lines, 'line');
    child.stdin.write('\n');
    await zombie;
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toMatch(/\) Z /);
    expect(await isAlive(found)).toBe(false);
    child.stdin.end('\n');
    await exited;
  });
});
