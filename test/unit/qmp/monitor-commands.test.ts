// Commands, answers and events on a connection that works, or hangs.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NotSent, OutcomeUnknown, Refused } from '../../../src/qmp/errors.ts';
import { Monitor, type MonitorOptions, type QmpEvent } from '../../../src/qmp/monitor.ts';
import { type Connection, type Request, ScriptedQmp } from '../../support/fake-qemu/scripted-qmp.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';

interface Connected extends AsyncDisposable {
  readonly monitor: Monitor;
  readonly qemu: Connection;
  readonly server: ScriptedQmp;
  readonly strays: string[];
}

/** A monitor that is connected to a scripted QEMU. */
async function connected(options: Partial<MonitorOptions> = {}): Promise<Connected> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await testDir());
  const server = stack.use(await ScriptedQmp.listen(`${dir.path}/qmp.sock`));
  const strays: string[] = [];
  const monitor = stack.use(new Monitor({ path: server.path, onStray: (text) => strays.push(text), ...options }));
  monitor.start();
  const qemu = await server.connected();
  await monitor.ready();
  const moved = stack.move();
  return { monitor, qemu, server, strays, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

async function receive(qemu: Connection, count: number): Promise<Request[]> {
  const requests: Request[] = [];
  while (requests.length < count) requests.push(await qemu.receive());
  return requests;
}

/** Starts commands named 0, 1, …; the caller checks each of them. */
function executeMany(monitor: Monitor, count: number): Promise<unknown>[] {
  return Array.from({ length: count }, (_, index) => monitor.execute({ execute: String(index) }));
}

const names = (requests: Request[]): unknown[] => requests.map((request) => request.execute ?? request['exec-oob']);

describe('a command', () => {
  it('is written as given and resolves with the return value', async () => {
    await using t = await connected();
    const answer = t.monitor.execute({ execute: 'query-block', arguments: { flat: true } });
    const request = await t.qemu.receive();
    expect(request).toEqual({
      execute: 'query-block',
      arguments: { flat: true },
      id: expect.anything() as unknown,
    });
    t.qemu.reply(request, [{ device: 'vda' }]);
    expect(await answer).toEqual([{ device: 'vda' }]);
  });

  it('has no arguments member when it has no arguments', async () => {
    await using t = await connected();
    const answer = t.monitor.execute({ execute: 'stop' });
    const request = await t.qemu.receive();
    expect(Object.keys(request)).toEqual(['execute', 'id']);
    t.qemu.reply(request);
    await answer;
  });

  it('that QEMU refuses rejects with its class and text', async () => {
    await using t = await connected();
    const answer = t.monitor.execute({ execute: 'eject' });
    t.qemu.refuse(await t.qemu.receive(), "Device 'vda' is locked", 'DeviceNotFound');
    const expected = { command: 'eject', qemuClass: 'DeviceNotFound', desc: "Device 'vda' is locked" };
    await expect(answer).rejects.toMatchObject(expected);
    await expect(answer).rejects.toBeInstanceOf(Refused);
  });

  it('with arguments that are not JSON is NotSent, and the connection continues', async () => {
    await using t = await connected();
    const bad = t.monitor.execute({ execute: 'set', arguments: { speed: 1n } });
    await expect(bad).rejects.toBeInstanceOf(NotSent);
    const good = t.monitor.execute({ execute: 'stop' });
    t.qemu.reply(await t.qemu.receive());
    await good;
  });

  it('keeps the arguments that it had when it was called, though it has to wait', async () => {
    await using t = await connected();
    const blocking = executeMany(t.monitor, 7);
    const args = { speed: 1 };
    const waiting = t.monitor.execute({ execute: 'set', arguments: args });
    args.speed = 2;
    const requests = await receive(t.qemu, 7);
    for (const request of requests) t.qemu.reply(request);
    const request = await t.qemu.receive();
    expect(request.arguments).toEqual({ speed: 1 });
    t.qemu.reply(request);
    await Promise.all([...blocking, waiting]);
  });

  it('gets its own answer when the answers come in another order', async () => {
    await using t = await connected();
    const answers = executeMany(t.monitor, 3);
    const requests = await receive(t.qemu, 3);
    for (const request of requests.toReversed()) t.qemu.reply(request, request.execute);
    expect(await Promise.all(answers)).toEqual(['0', '1', '2']);
  });
});

describe('at most seven commands are with QEMU', () => {
  it('and the others are written in order, each after an answer; an out-of-band command passes them', async () => {
    await using t = await connected();
    const answers = executeMany(t.monitor, 10);
    const oob = t.monitor.executeOob({ execute: 'yank' });
    const first = await receive(t.qemu, 8);
    expect(names(first)).toEqual(['0', '1', '2', '3', '4', '5', '6', 'yank']);
    expect(first[7]).toHaveProperty('exec-oob', 'yank');
    // The answer to an out-of-band command frees no slot: later commands follow the other answers.
    for (const request of [first[7], first[3], first[0]]) if (request) t.qemu.reply(request, request.id);
    await oob;
    const second = await receive(t.qemu, 2);
    expect(names(second)).toEqual(['7', '8']);
    for (const request of first.filter((_, index) => ![0, 3, 7].includes(index))) t.qemu.reply(request);
    const third = await t.qemu.receive();
    expect(third.execute).toBe('9');
    for (const request of [...second, third]) t.qemu.reply(request);
    await Promise.all(answers);
  });

  it('a command that times out before its turn is NotSent and is never written', async () => {
    await using t = await connected();
    const answers = executeMany(t.monitor, 7);
    const waiting = t.monitor.execute({ execute: 'too late' }, { timeoutMs: 20 });
    await expect(waiting).rejects.toBeInstanceOf(NotSent);
    const next = t.monitor.execute({ execute: 'next' });
    for (const request of await receive(t.qemu, 7)) t.qemu.reply(request);
    await Promise.all(answers);
    const request = await t.qemu.receive();
    expect(request.execute).toBe('next');
    t.qemu.reply(request);
    await next;
  });

  it('a command that timed out keeps its place with QEMU until its late answer', async () => {
    await using t = await connected({ commandTimeoutMs: 20 });
    const hung = await Promise.allSettled(executeMany(t.monitor, 7));
    expect(hung.map(({ status }) => status)).toEqual(Array(7).fill('rejected'));
    const next = t.monitor.execute({ execute: 'next' }, { timeoutMs: 10_000 });
    const oob = t.monitor.executeOob({ execute: 'yank' }, { timeoutMs: 10_000 });
    const requests = await receive(t.qemu, 8);
    expect(names(requests).at(-1)).toBe('yank');
    for (const request of requests) t.qemu.reply(request);
    t.qemu.reply(await t.qemu.receive(), 'done');
    expect(await next).toBe('done');
    await oob;
    expect(t.strays).toHaveLength(7);
  });
});

describe('a QEMU that does not answer', () => {
  it('the command is OutcomeUnknown, its late answer is dropped, and the next command works', async () => {
    await using t = await connected();
    const slow = t.monitor.execute({ execute: 'slow' }, { timeoutMs: 20 });
    await expect(slow).rejects.toMatchObject({ name: 'OutcomeUnknown', why: 'timeout', command: 'slow' });
    const next = t.monitor.execute({ execute: 'next' });
    const [late, request] = await receive(t.qemu, 2);
    if (late) t.qemu.reply(late, 'late');
    if (request) t.qemu.reply(request, 'next');
    expect(await next).toBe('next');
    expect(t.strays).toEqual([expect.stringMatching(/^nobody waits for the answer/)]);
    expect(t.monitor.state).toMatchObject({ is: 'connected', generation: 1 });
  });

  it('an out-of-band command times out too', async () => {
    await using t = await connected();
    const slow = t.monitor.executeOob({ execute: 'yank' }, { timeoutMs: 20 });
    await expect(slow).rejects.toBeInstanceOf(OutcomeUnknown);
  });

  it('a time-out that is longer than timers can be does not fire at once', async () => {
    await using t = await connected();
    const answer = t.monitor.execute({ execute: 'slow' }, { timeoutMs: Number.POSITIVE_INFINITY });
    const other = t.monitor.execute({ execute: 'other' }, { timeoutMs: 20 });
    await expect(other).rejects.toBeInstanceOf(OutcomeUnknown);
    t.qemu.reply(await t.qemu.receive(), 'done');
    expect(await answer).toBe('done');
  });

  it('an answer to nothing is dropped and reported', async () => {
    await using t = await connected();
    t.qemu.send({ return: {}, id: 'never asked' }, { error: { class: 'C', desc: 'no' }, id: null });
    const answer = t.monitor.execute({ execute: 'stop' });
    t.qemu.reply(await t.qemu.receive());
    await answer;
    expect(t.strays).toEqual([
      'nobody waits for the answer with id "never asked": return',
      'nobody waits for the answer with id null: error: no',
    ]);
  });
});

describe('events', () => {
  it('that come before the answer are heard before it, those after it are heard too', async () => {
    await using t = await connected();
    const heard: string[] = [];
    t.monitor.onEvent(({ event }) => heard.push(event));
    const answer = t.monitor.execute({ execute: 'job' }).then(() => heard.push('answer'));
    const request = await t.qemu.receive();
    t.qemu.event('created');
    t.qemu.event('ready');
    t.qemu.reply(request);
    await answer;
    const last = new Promise<void>((resolve) => t.monitor.onEvent(() => resolve()));
    t.qemu.event('concluded');
    await last;
    expect(heard).toEqual(['created', 'ready', 'answer', 'concluded']);
  });

  it('carry data and time', async () => {
    await using t = await connected();
    const heard = new Promise<QmpEvent>((resolve) => t.monitor.onEvent(resolve));
    t.qemu.event('RESET', { guest: true });
    const timestamp = { seconds: 1, microseconds: 2 };
    expect(await heard).toEqual({ event: 'RESET', data: { guest: true }, timestamp });
  });

  it('reach the other listeners when one throws, which is reported', async () => {
    await using t = await connected();
    t.monitor.onEvent(() => {
      throw new Error('broken');
    });
    const heard = new Promise<QmpEvent>((resolve) => t.monitor.onEvent(resolve));
    t.qemu.event('STOP');
    expect((await heard).event).toBe('STOP');
    expect(t.strays).toEqual(['a listener for event threw: Error: broken']);
  });

  it('that follow in the same bytes are not heard once a listener has closed the monitor', async () => {
    await using t = await connected();
    const heard: string[] = [];
    const closed = new Promise<void>((resolve) => {
      t.monitor.onEvent(({ event }) => {
        heard.push(event);
        resolve(t.monitor.close());
      });
    });
    t.qemu.send({ event: 'A' }, { event: 'B' });
    await closed;
    expect(heard).toEqual(['A']);
  });
});

it('no interleaving of events and answers, under any fragmentation, loses or reorders an event or an answer', async () => {
  await using t = await connected();
  const heard: unknown[] = [];
  t.monitor.onEvent(({ data }) => heard.push(data['n']));
  const run = fc.record({
    commandCount: fc.integer({ min: 1, max: 7 }),
    eventCount: fc.nat({ max: 12 }),
    refused: fc.infiniteStream(fc.boolean()),
    order: fc.infiniteStream(fc.nat()),
    cuts: fc.array(fc.nat(), { maxLength: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(run, async ({ commandCount, eventCount, refused, order, cuts }) => {
      heard.length = 0;
      const answers = Promise.allSettled(executeMany(t.monitor, commandCount));
      const requests = await receive(t.qemu, commandCount);
      const replies = requests.map(({ id, execute }) =>
        refused.next().value ? { id, error: { class: 'C', desc: String(execute) } } : { id, return: execute },
      );
      // Answers in any order, with the events, which keep their order, anywhere between them.
      const lines: unknown[] = [];
      for (const reply of replies) lines.splice((order.next().value ?? 0) % (lines.length + 1), 0, reply);
      let place = 0;
      for (let n = 0; n < eventCount; n++) {
        place += (order.next().value ?? 0) % (lines.length + 1 - place);
        lines.splice(place++, 0, { event: 'E', data: { n, text: 'é漢😀' } });
      }
      const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\r\n`).join(''));
      const places = [...cuts.map((cut) => cut % bytes.length), bytes.length].toSorted((a, b) => a - b);
      let start = 0;
      for (const end of places) {
        t.qemu.write(bytes.subarray(start, end));
        start = end;
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await answers).toEqual(
        replies.map((reply) =>
          'error' in reply
            ? { status: 'rejected', reason: new Refused(reply.error.desc, 'C', reply.error.desc) }
            : { status: 'fulfilled', value: reply.return },
        ),
      );
      // When the answer to one more command has come, the events after the last answer have come, too.
      const flush = t.monitor.execute({ execute: 'flush' });
      t.qemu.reply(await t.qemu.receive());
      await flush;
      expect(heard).toEqual(Array.from({ length: eventCount }, (_value, n) => n));
    }),
  );
  expect(t.strays).toEqual([]);
});
