import { pino } from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { GuestHold } from '../../../../src/agent/job/guest-hold.ts';
import type { Holdable } from '../../../../src/agent/job/holdable.ts';
import type { HoldRecord } from '../../../../src/agent/journal/written-hold.ts';
import { Formats } from '../../../../src/agent/qemu/formats.ts';
import { FREE } from '../../../../src/core/job/guest-hold.ts';
import { HOLD_LIMIT_MS } from '../../../../src/core/moves/circumstances.ts';
import type { GuestCommand, QmpCommand } from '../../../../src/core/qemu/commands.ts';
import { DRAIN } from '../../../../src/core/qemu/drain.ts';
import type { QemuJob, QemuJobStatus } from '../../../../src/core/qemu/replies.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { NotSent } from '../../../../src/qmp/errors.ts';

const CREATE: QmpCommand = {
  execute: 'blockdev-create',
  arguments: { 'job-id': 'c', options: { driver: 'qcow2', file: 'f', size: 1 } },
};
const STOP: GuestCommand = { execute: 'stop' };
const CONT: GuestCommand = { execute: 'cont' };
const NODES: QmpCommand = { execute: 'query-named-block-nodes', arguments: { flat: true } };

/** A QEMU that answers a command when a test says so. */
function qemu(limitMs: number | 'DEFAULT' = 60_000) {
  const sent: string[] = [];
  const answers: PromiseWithResolvers<string>[] = [];
  const wake = new Wake();
  let listed: readonly QemuJob[] = [];
  const formats = new Formats(
    { wake, jobs: async () => await Promise.resolve(listed) },
    limitMs === 'DEFAULT' ? undefined : limitMs,
  );
  const send = async (command: QmpCommand | GuestCommand) =>
    await formats.around(command, async () => {
      sent.push(command.execute);
      const answer = Promise.withResolvers<string>();
      answers.push(answer);
      return await answer.promise;
    });
  const sendAtOnce = async (command: GuestCommand) =>
    await formats.around(command, async () => void sent.push(command.execute));
  const has = (type: string, status: QemuJobStatus, id = 'c') => {
    listed = [{ id, type, status, error: undefined, currentBytes: 0, endBytes: 1 }];
    wake.notify();
  };
  const answer = () => answers.shift()?.resolve('answered');
  return { sent, send, sendAtOnce, has, answer };
}

const turn = async () => await new Promise(setImmediate);

it('a silent QEMU delays all looks as long as one, and no format begins before their end', async () => {
  const asked: PromiseWithResolvers<readonly QemuJob[]>[] = [];
  const jobs = async () => {
    const answer = Promise.withResolvers<readonly QemuJob[]>();
    asked.push(answer);
    return await answer.promise;
  };
  const formats = new Formats({ wake: new Wake(), jobs });
  const sent: string[] = [];
  const send = async (command: QmpCommand) =>
    await formats.around(command, async () => await Promise.resolve(sent.push(command.execute)));
  const looks = [send(NODES), send(NODES), send(NODES)];
  const format = send(CREATE);
  await turn();
  expect(asked).toHaveLength(3);
  expect(sent).toEqual([]);
  asked[0]?.reject(new Error('silent'));
  await expect(looks[0]).rejects.toThrow('silent');
  for (const one of asked.slice(1)) one.resolve([]);
  await Promise.all(looks.slice(1));
  await format;
  expect(sent).toEqual([NODES.execute, NODES.execute, CREATE.execute]);
});

describe('beside an image that is being formatted', () => {
  it.each([STOP, DRAIN, CONT, NODES])('QEMU is not sent $execute', async (command) => {
    const { sent, send, has, answer } = qemu();
    for (const [type, status] of [['create', 'concluded'] as const, ['mirror', 'ready'] as const]) {
      for (const live of ['created', 'running', 'paused'] as const) has('create', live);
      const answered = send(command);
      await turn();
      expect(sent).toEqual([]);
      has(type, status);
      await turn();
      expect(sent.splice(0)).toEqual([command.execute]);
      answer();
      expect(await answered).toBe('answered');
    }
  });

  it('nothing waits for long: while it hangs each is refused at once, until another one is seen', async () => {
    const { sent, send, has } = qemu(20);
    has('create', 'running');
    const why = new NotSent('stop', 'QEMU has been formatting an image for long, job c');
    await expect(send(STOP)).rejects.toThrow(why);
    await expect(send(STOP)).rejects.toThrow(why);
    has('create', 'running', 'd');
    const stopped = send(STOP);
    has('create', 'concluded', 'd');
    await turn();
    expect(sent).toEqual(['stop']);
    void stopped;
  });

  it('nothing waits for longer than five seconds, if not said otherwise', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { send, has } = qemu('DEFAULT');
    has('create', 'running');
    const refused: string[] = [];
    void send(NODES).catch(({ message }: Error) => refused.push(message));
    await turn();
    await vi.advanceTimersByTimeAsync(4999);
    await turn();
    expect(refused).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await turn();
    expect(refused).toEqual([expect.stringContaining('formatting an image for long')]);
  });

  it('all other commands are sent at once', async () => {
    const { sent, send, has } = qemu();
    has('create', 'running');
    void send(STOP);
    for (const execute of ['query-jobs', 'query-blockstats'] as const) void send({ execute });
    await turn();
    expect(sent).toEqual(['query-jobs', 'query-blockstats']);
  });

  it('the guest is resumed at the end, while others keep waiting', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { sent, send, has } = qemu();
    has('create', 'running');
    void send(NODES);
    void send(CONT);
    await turn();
    await vi.advanceTimersByTimeAsync(999);
    await turn();
    expect(sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await turn();
    expect(sent).toEqual(['cont']);
  });
});

it('a held guest is resumed at its limit, and a second later, if a formatting begins then and hangs', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const { sent, send, sendAtOnce, has } = qemu(5000);
  const hears: ((event: { readonly event: string }) => void)[] = [];
  const machine: Holdable = {
    identity: {},
    standstill: { begin: async () => undefined, end: async () => undefined },
    onEvent: (listener) => void hears.push(listener),
    runState: async () => await Promise.resolve(sent.includes('stop') ? 'paused' : 'running'),
    steer: async (command, atTurn) => {
      atTurn();
      await sendAtOnce(command);
      for (const hear of hears) hear({ event: command.execute === 'stop' ? 'STOP' : 'RESUME' });
    },
  };
  const record: HoldRecord = { hold: FREE, isSame: true, save: async () => undefined };
  const hold = new GuestHold({ machine, record: () => record, logger: pino({ level: 'silent' }) });
  await hold.hold('a', 'a test');
  has('create', 'running');
  // The job cannot look at the graph, and so it keeps its hold.
  const looked = send(NODES).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(2 * HOLD_LIMIT_MS + 1000);
  expect(await looked).toBeInstanceOf(NotSent);
  expect(sent).toEqual(['stop', 'cont']);
  has('create', 'concluded');
  await hold.close();
});

it('an image is formatted when the guest has been stopped, and later commands wait until the image is listed', async () => {
  const { sent, send, has, answer } = qemu();
  const stopped = send(STOP);
  const created = send(CREATE);
  void send(NODES);
  await turn();
  expect(sent).toEqual(['stop']);
  answer();
  expect(await stopped).toBe('answered');
  await turn();
  expect(sent).toEqual(['stop', 'blockdev-create']);
  has('create', 'running');
  answer();
  expect(await created).toBe('answered');
  await turn();
  expect(sent).toEqual(['stop', 'blockdev-create']);
  has('create', 'concluded');
  await turn();
  expect(sent).toEqual(['stop', 'blockdev-create', 'query-named-block-nodes']);
});
