import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { VirtualMachine } from '../../../../src/agent/qemu/virtual-machine.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { type Connection, ScriptedQmp } from '../../../support/fake-qemu/scripted-qmp.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { until } from '../../../support/until.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const ANSWERS: Readonly<Record<string, unknown>> = {
  'query-name': { name: 'web1' },
  'query-uuid': { UUID: '11111111-2222-4333-8444-555555555555' },
  'query-jobs': [],
  'query-cpus-fast': [],
};

function machineAt(socketPath: string) {
  const changes = new Wake();
  const log = pino({ level: 'silent' });
  const machine = new VirtualMachine({
    socketPath,
    givenName: undefined,
    logger: log,
    onChange: () => changes.notify(),
  });
  machine.start();
  return { machine, changes };
}

async function answerWho(connection: Connection): Promise<void> {
  for (const _ of Object.keys(ANSWERS)) {
    const request = await connection.receive();
    connection.reply(request, ANSWERS[request.execute ?? '']);
  }
}

it('a QEMU that is silent right after the negotiation is asked for its name again, over another connection', async () => {
  await using dir = await testDir();
  await using qmp = await ScriptedQmp.listen(join(dir.path, 'qmp.sock'));
  const { machine, changes } = machineAt(qmp.path);
  try {
    const silent = await qmp.connected();
    for (const _ of Object.keys(ANSWERS)) await silent.receive();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(qmp.connectionCount).toBe(1);
    // A command's own time, and the longest wait before the next connection.
    await vi.advanceTimersByTimeAsync(1_000);
    await silent.closed;
    expect(machine.trouble).toContain('QEMU did not answer');
    await vi.advanceTimersByTimeAsync(5_000);
    await answerWho(await qmp.connected());
    await until('it is known who it is', changes, () => machine.identity !== undefined);
    expect(machine.identity).toMatchObject({ name: 'web1', generation: 2 });
  } finally {
    await machine.close();
  }
});

it('is asked for its jobs right before its guest is continued: then it forgets why they are paused', async () => {
  await using dir = await testDir();
  await using qmp = await ScriptedQmp.listen(join(dir.path, 'qmp.sock'));
  const { machine, changes } = machineAt(qmp.path);
  try {
    const connection = await qmp.connected();
    await answerWho(connection);
    await until('it is known who it is', changes, () => machine.identity !== undefined);
    const continued = machine.steer({ execute: 'cont' }, () => true);
    connection.reply(await connection.receive(), []);
    const [asked, cont] = [await connection.receive(), await connection.receive()];
    expect([asked.execute, cont.execute]).toEqual(['query-block-jobs', 'cont']);
    const job = {
      device: 'bj0123456789abcdef',
      type: 'mirror',
      status: 'paused',
      paused: true,
      len: 1,
      offset: 0,
      speed: 0,
    };
    connection.reply(asked, [{ ...job, 'io-status': 'nospace' }]);
    connection.reply(cont, {});
    await continued;
    const jobs = machine.blockJobs();
    connection.reply(await connection.receive(), [{ ...job, 'io-status': 'ok' }]);
    expect(await jobs).toMatchObject([{ paused: true, ioStatus: 'nospace' }]);
  } finally {
    await machine.close();
  }
});
