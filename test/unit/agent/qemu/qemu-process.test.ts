import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { compareProcesses, findListener, hasThread, processPresence } from '../../../../src/agent/qemu/qemu-process.ts';
import { PYTHON } from '../../../support/means.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { HIDEPID } from '../../../support/real-qemu/sights.ts';

const BOOT_ID = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
const PID_NAMESPACE = readlinkSync('/proc/self/ns/pid');

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

describe('a thread', () => {
  it('is of one process', async () => {
    expect(await hasThread(process.pid, process.pid)).toBe(true);
    expect(await hasThread(process.pid, process.ppid)).toBe(false);
    expect(await hasThread(process.ppid, process.pid)).toBe(false);
  });

  it.skipIf(!CAN_HIDE)('has the number that it has in its own namespace', async () => {
    const print = 'read -r pid rest < /proc/self/stat; echo $pid; exec sleep 1000';
    const outer = spawn('unshare', ['--pid', '--fork', '--kill-child', 'sh', '-c', print], { stdio: 'pipe' });
    try {
      // A /proc from before the namespace: it prints this process's id there.
      const [line] = (await once(createInterface({ input: outer.stdout }), 'line')) as [string];
      expect([await hasThread(Number(line), 1), await hasThread(Number(line), Number(line))]).toEqual([true, false]);
    } finally {
      outer.kill('SIGKILL');
      await once(outer, 'exit');
    }
  });
});

describe('the process behind a socket', () => {
  it('is found with its start, its folder and its owner', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using listener = await listenAt('/', path);
    const stat = readFileSync(`/proc/${listener.pid}/stat`, 'utf8');
    expect(await findListener(path)).toEqual({
      process: {
        pid: listener.pid,
        startTime: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19],
        bootId: BOOT_ID,
        pidNamespace: PID_NAMESPACE,
      },
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

  // As a QEMU with a monitor for the service and one for its administrator.
  it('is found for each of its sockets, though their names have the same end', async () => {
    await using dir = await testDir();
    const paths = [join(dir.path, 'admin-qmp.sock'), join(dir.path, 'qmp.sock')];
    await using listener = await listenAt('/', ...paths);
    for (const path of paths) expect((await findListener(path))?.process.pid).toBe(listener.pid);
  });

  // Both claim to listen there, and only one of them can be reached.
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
      const module = JSON.stringify(resolve('src/agent/qemu/qemu-process.ts'));
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

// Only a parent that does not wait for its child has a zombie; Node always waits.
const HAS_PYTHON = spawnSync(PYTHON, ['--version']).status === 0;
if (!HAS_PYTHON) console.warn('NOT TESTED, AS PYTHON IS MISSING: processes that have ended and are zombies');

const MODULE = JSON.stringify(resolve('src/agent/qemu/qemu-process.ts'));
const PID_NAMESPACE_OF_ITS_OWN = ['unshare', '--pid', '--fork', '--mount-proc', '--'] as const;
const CAN_UNSHARE = [PID_NAMESPACE_OF_ITS_OWN, HIDEPID.under].every(([command = '', ...args]) => {
  return spawnSync(command, [...args, 'true']).status === 0;
});
if (!CAN_UNSHARE) console.warn('NOT TESTED, AS IT TAKES ROOT AND NAMESPACES: processes that /proc does not show');

describe('a process', () => {
  it('is alive until it is killed, and another process with the same pid is a different one', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'qmp.sock');
    await using listener = await listenAt('/', path);
    const { process: found } = (await findListener(path)) ?? { process: { pid: 0, startTime: '' } };
    expect(await processPresence(found)).toBe('UP');
    expect(await processPresence({ ...found, startTime: `${Number(found.startTime) + 1}` })).toBe('ENDED');
    await listener.kill();
    expect(await processPresence(found)).toBe('ENDED');
  });

  it('of another boot has ended, whichever process has its pid now', async () => {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    const own = { pid: process.pid, startTime, pidNamespace: PID_NAMESPACE };
    expect(await processPresence({ ...own, bootId: BOOT_ID })).toBe('UP');
    expect(await processPresence({ ...own, bootId: '00000000-0000-4000-8000-000000000000' })).toBe('ENDED');
  });

  // The kernel's largest pid is smaller.
  const NOBODY = 4_194_304;

  it('that does not exist has ended only in the namespace in which it was seen', async () => {
    const gone = { pid: NOBODY, startTime: '1', bootId: BOOT_ID };
    expect(await processPresence({ ...gone, pidNamespace: PID_NAMESPACE })).toBe('ENDED');
    expect(await processPresence({ ...gone, pidNamespace: 'pid:[1]' })).toBe('UNKNOWN');
  });

  // From the host's own namespace all processes are visible, and none of them began then. (PROC_PID_INIT_INO)
  it.skipIf(PID_NAMESPACE !== 'pid:[4026531836]')(
    'of a journal without its namespace has ended if no process of the host has its start',
    async () => {
      expect(await processPresence({ pid: NOBODY, startTime: '1' })).toBe('ENDED');
      const stat = readFileSync('/proc/self/stat', 'utf8');
      const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
      // In a container it had another pid.
      expect(await processPresence({ pid: NOBODY, startTime })).toBe('UNKNOWN');
    },
  );

  it.skipIf(!CAN_UNSHARE)('that /proc does not show, or that has another number here, has not ended', async () => {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    const own = { pid: process.pid, startTime, bootId: BOOT_ID, pidNamespace: PID_NAMESPACE };
    const older = { pid: process.pid, startTime };
    for (const [under = '', ...args] of [PID_NAMESPACE_OF_ITS_OWN, HIDEPID.under]) {
      const ask = `import(${MODULE}).then(async (it) => {
        for (const one of ${JSON.stringify([own, older])}) console.log(await it.processPresence(one));
      })`;
      const { stdout } = spawnSync(under, [...args, process.execPath, '-e', ask], { encoding: 'utf8' });
      expect(stdout).toBe('UNKNOWN\nUNKNOWN\n');
    }
  });

  it('is compared by number, start, boot and namespace; across two namespaces nobody knows', () => {
    const one = { pid: 1, startTime: '2', bootId: 'b', pidNamespace: 'pid:[1]' };
    expect(compareProcesses(one, { ...one })).toBe('SAME');
    expect(compareProcesses(one, { ...one, pid: 2 })).toBe('OTHER');
    expect(compareProcesses(one, { ...one, startTime: '3' })).toBe('OTHER');
    expect(compareProcesses(one, { ...one, bootId: 'c' })).toBe('OTHER');
    expect(compareProcesses(one, { ...one, pidNamespace: 'pid:[2]' })).toBe('UNKNOWN');
    expect(compareProcesses({ pid: 1, startTime: '2' }, one)).toBe('SAME');
    expect(compareProcesses({ pid: 1, startTime: '3' }, one)).toBe('UNKNOWN');
  });

  it('is recognized though its own name looks like the fields behind it', async () => {
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
    expect(await processPresence({ pid, startTime })).toBe('UP');
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
  it.skipIf(!HAS_PYTHON)('is dead even if its parent has not noticed its death yet', async () => {
    const child = spawn(PYTHON, ['-c', ZOMBIE], { stdio: ['pipe', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const lines = createInterface({ input: child.stdout });
    const [first] = (await once(lines, 'line')) as [string];
    const [pid = '', startTime = ''] = first.split(' ');
    const found = { pid: Number(pid), startTime, pidNamespace: PID_NAMESPACE };
    expect(await processPresence(found)).toBe('UP');
    const zombie = once(lines, 'line');
    child.stdin.write('\n');
    await zombie;
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toMatch(/\) Z /);
    expect(await processPresence(found)).toBe('ENDED');
    child.stdin.end('\n');
    await exited;
  });
});
