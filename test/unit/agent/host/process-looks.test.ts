/** The looks at all processes: by a thread of their own, and without it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, it, vi } from 'vitest';
import { soughtAt } from '../../../../src/agent/host/open-files.ts';
import { foundBy, startThread } from '../../../../src/agent/host/process-looks.ts';
import type { Search } from '../../../../src/agent/host/process-pass.ts';
import { ProcessThread } from '../../../../src/agent/host/process-thread.ts';
import { present } from '../../../support/checks.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

/** A process that writes to a file, and reads another one. */
async function programWith(dir: string) {
  await using written = await open(join(dir, 'written'), 'w');
  await writeFile(join(dir, 'read'), '');
  await using reads = await open(join(dir, 'read'), 'r');
  const child = spawn('sleep', ['600'], { stdio: [reads.fd, written.fd, 'ignore'] });
  await once(child, 'spawn');
  return {
    pid: present(child.pid),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

async function fileAt(path: string, toWrite: boolean): Promise<Search> {
  return {
    is: 'FILE',
    numbers: { inode: present(present(await soughtAt(path)).inode) },
    toWrite,
    besides: [process.pid],
  };
}

/** Not the devices of other processes, which are found for any file. */
const under = (dir: string, all: readonly { pid: number; name: string }[]) =>
  all.filter(({ name }) => name.startsWith(dir)).map(({ pid, name }) => ({ pid, name }));

afterEach(() => {
  vi.restoreAllMocks();
});

it('one pass of the thread answers all searches', async () => {
  await using dir = await testDir();
  await using program = await programWith(dir.path);
  const [written, read] = [join(dir.path, 'written'), join(dir.path, 'read')];
  const thread = await ProcessThread.start();
  const { pid } = program;
  const stdin: Search = { is: 'SOCKETS', names: new Set([read]) };
  const searches = [await fileAt(written, true), await fileAt(read, true), await fileAt(read, false), stdin];
  const found = await thread.pass([...searches, { ...(await fileAt(written, true)), besides: [pid] } as Search]);
  expect(found.map((one) => under(dir.path, one))).toEqual([
    [{ pid, name: written }],
    [],
    [{ pid, name: read }],
    [{ pid, name: read }],
    [],
  ]);
});

it('without a thread the answer is the same, and the log says so', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
  await using dir = await testDir();
  await using program = await programWith(dir.path);
  const expected = [{ pid: program.pid, name: join(dir.path, 'written') }];
  const search = await fileAt(join(dir.path, 'written'), true);
  await startThread(async () => await Promise.reject(new Error('no more threads')));
  expect(under(dir.path, await foundBy(search))).toEqual(expected);
  expect(warned.mock.calls.flat()).toEqual([expect.stringContaining('no more threads')]);
});

it('a thread that dies during a pass is replaced by this one', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
  await using dir = await testDir();
  await using program = await programWith(dir.path);
  const expected = [{ pid: program.pid, name: join(dir.path, 'written') }];
  const search = await fileAt(join(dir.path, 'written'), true);
  await startThread(async () => await Promise.resolve(async () => await Promise.reject(new Error('it died'))));
  for (const _again of [1, 2]) expect(under(dir.path, await foundBy(search))).toEqual(expected);
  expect(warned.mock.calls.flat()).toEqual([expect.stringContaining('it died')]);
});

it('a process with an idle thread ends', async () => {
  const source = join(import.meta.dirname, '../../../../src/agent/host/process-thread.ts');
  const script = `const { ProcessThread } = await import(${JSON.stringify(source)});
    const thread = await ProcessThread.start();
    console.log((await thread.pass([{ is: 'SOCKETS', names: new Set() }])).length);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  expect(stdout).toBe('1\n');
});
