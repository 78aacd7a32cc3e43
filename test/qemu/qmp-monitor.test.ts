// The QMP client against a real QEMU without a machine.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { Monitor } from '../../src/qmp/monitor.ts';
import { present } from '../support/checks.ts';
import { nextState } from '../support/fake-qemu/scripted-qmp.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';

interface BareQemu extends AsyncDisposable {
  readonly path: string;
  readonly process: ChildProcess;
}

/** A QEMU with a monitor and nothing else. Its socket may not exist yet. */
async function bareQemu(): Promise<BareQemu> {
  await using stack = new AsyncDisposableStack();
  const path = `${stack.use(await testDir()).path}/qmp.sock`;
  const nothing = ['-machine', 'none', '-nodefaults', '-display', 'none'];
  const monitors = [path, another(path)].flatMap((one) => ['-qmp', `unix:${one},server=on,wait=off`]);
  const child = spawn('qemu-system-x86_64', [...nothing, ...monitors], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  stack.defer(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  await once(child, 'spawn');
  const moved = stack.move();
  return { path, process: child, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** A second one of the same QEMU. */
function another(path: string): string {
  return `${path}.2`;
}

describe('Monitor and a real QEMU', () => {
  it('shake hands with oob; commands, refusals, a long answer and out-of-band commands work', async () => {
    await using qemu = await bareQemu();
    await using monitor = new Monitor({ path: qemu.path });
    monitor.start();
    await monitor.ready(AbortSignal.timeout(10_000));
    expect(monitor.state).toMatchObject({
      is: 'connected',
      generation: 1,
      greeting: { capabilities: ['oob'] },
    });
    expect(monitor.state).toHaveProperty('greeting.version.qemu.major', expect.any(Number));

    const schema = await monitor.execute({ execute: 'query-qmp-schema' });
    expect(JSON.stringify(schema).length).toBeGreaterThan(100_000);

    await expect(monitor.execute({ execute: 'no-such-command' })).rejects.toMatchObject({
      name: 'Refused',
      command: 'no-such-command',
      qemuClass: 'CommandNotFound',
      desc: 'The command no-such-command has not been found',
    });

    expect(await monitor.executeOob({ execute: 'query-yank' })).toBeInstanceOf(Array);
    await expect(monitor.executeOob({ execute: 'query-status' })).rejects.toMatchObject({ name: 'Refused' });

    const many = Array.from({ length: 100 }, () => monitor.execute({ execute: 'query-version' }));
    expect(new Set((await Promise.all(many)).map((version) => JSON.stringify(version))).size).toBe(1);
  });

  it('events come before the answer of the command that causes them', async () => {
    await using qemu = await bareQemu();
    await using monitor = new Monitor({ path: qemu.path });
    const heard: string[] = [];
    monitor.onEvent(({ event }) => heard.push(event));
    monitor.start();
    await monitor.ready(AbortSignal.timeout(10_000));
    await monitor.execute({ execute: 'stop' }).then(() => heard.push('answer'));
    expect(heard).toEqual(['STOP', 'answer']);
  });

  it('a second client is told that the monitor is busy, and gets it when the first one leaves', async () => {
    await using qemu = await bareQemu();
    await using first = new Monitor({ path: qemu.path });
    first.start();
    await first.ready(AbortSignal.timeout(10_000));
    await using second = new Monitor({ path: qemu.path, greetingTimeoutMs: 200 });
    const busy = nextState(second, 'disconnected');
    second.start();
    expect((await busy).error).toMatchObject({ name: 'ConnectFailed', why: 'busy' });
    await first.execute({ execute: 'query-version' });
    await first.close();
    await second.ready(AbortSignal.timeout(10_000));
    await second.execute({ execute: 'query-version' });
  });

  it('a stopped QEMU: commands time out as unknown, and work again when it continues', async () => {
    await using qemu = await bareQemu();
    await using monitor = new Monitor({ path: qemu.path });
    monitor.start();
    await monitor.ready(AbortSignal.timeout(10_000));
    await stop(present(qemu.process.pid));
    await expect(monitor.execute({ execute: 'query-version' }, { timeoutMs: 100 })).rejects.toMatchObject({
      name: 'OutcomeUnknown',
      why: 'timeout',
    });
    qemu.process.kill('SIGCONT');
    await monitor.execute({ execute: 'query-version' });
    expect(monitor.state).toMatchObject({ is: 'connected', generation: 1 });
  });

  it.each([
    ['of ours', (path: string) => path],
    ['of another monitor, so that none of ours is begun', another],
  ])('an out-of-band command is answered while QEMU hangs in one command %s and many wait', async (_whose, whose) => {
    await using qemu = await bareQemu();
    await using monitor = new Monitor({ path: qemu.path });
    await using second = new Monitor({ path: another(qemu.path) });
    for (const one of [monitor, second]) {
      one.start();
      await one.ready(AbortSignal.timeout(10_000));
    }
    // An open of a named pipe blocks QEMU's main loop until another program opens the other end.
    const pipe = `${qemu.path}.pipe`;
    await run('mkfifo', [pipe]);
    const hanging = whose(qemu.path) === qemu.path ? monitor : second;
    const hung = hanging.execute({ execute: 'pmemsave', arguments: { val: 0, size: 1, filename: pipe } });
    // So it has reached QEMU before any of ours.
    if (hanging !== monitor) await second.executeOob({ execute: 'query-yank' });
    const waiting = Array.from({ length: 20 }, () => monitor.execute({ execute: 'query-version' }));
    expect(await monitor.executeOob({ execute: 'query-yank' }, { timeoutMs: 10_000 })).toBeInstanceOf(Array);
    const [, result] = await Promise.all([readFile(pipe), Promise.allSettled([hung]), ...waiting]);
    expect(result).toHaveLength(1);
  });

  it('SIGKILL of QEMU disconnects, then its socket is a stale file', async () => {
    await using qemu = await bareQemu();
    await using monitor = new Monitor({ path: qemu.path });
    monitor.start();
    await monitor.ready(AbortSignal.timeout(10_000));
    const lost = nextState(monitor, 'disconnected');
    qemu.process.kill('SIGKILL');
    expect((await lost).error).toMatchObject({ name: 'Disconnected' });
    expect((await nextState(monitor, 'disconnected')).error).toMatchObject({ why: 'refused' });
  });
});
