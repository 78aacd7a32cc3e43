// How connections begin, break and come back.

import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { ConnectFailed, Disconnected, NotSent, OutcomeUnknown } from '../../../src/qmp/errors.ts';
import { Monitor, type MonitorOptions } from '../../../src/qmp/monitor.ts';
import { type Connection, greeting, HeldQmp, nextState, ScriptedQmp } from '../../support/fake-qemu/scripted-qmp.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';

interface Rig extends AsyncDisposable {
  readonly path: string;
  readonly server: ScriptedQmp;
  /** Not started. */
  readonly monitor: Monitor;
}

async function rig(options: Partial<MonitorOptions> = {}): Promise<Rig> {
  await using stack = new AsyncDisposableStack();
  const path = `${stack.use(await testDir()).path}/qmp.sock`;
  const server = stack.use(await ScriptedQmp.listen(path));
  const monitor = stack.use(new Monitor({ path, ...options }));
  const moved = stack.move();
  return { path, server, monitor, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** The active timers and sockets of this process. */
function handles(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => /Timeout|Pipe/.test(name))
    .toSorted();
}

/** Starts the monitor and returns the error of its first attempt. */
async function firstFailure(monitor: Monitor): Promise<unknown> {
  const failed = nextState(monitor, 'disconnected');
  monitor.start();
  return (await failed).error;
}

describe('negotiation', () => {
  it('enables oob when it is offered, and reports the greeting and the generation', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.accept();
    expect(await qemu.negotiate()).toMatchObject({
      execute: 'qmp_capabilities',
      arguments: { enable: ['oob'] },
    });
    await t.monitor.ready();
    expect(t.monitor.state).toEqual({ is: 'connected', generation: 1, greeting: greeting.QMP });
  });

  it('enables nothing when no known capability is offered', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.accept();
    qemu.send({ QMP: { ...greeting.QMP, capabilities: ['later'] } });
    const request = await qemu.receive();
    expect(request).not.toHaveProperty('arguments');
    qemu.reply(request);
    await t.monitor.ready();
  });

  it('that arrives with the greeting and the first event in one write works', async () => {
    await using t = await rig();
    const event = new Promise<string>((resolve) => t.monitor.onEvent((heard) => resolve(heard.event)));
    t.monitor.start();
    const qemu = await t.server.accept();
    qemu.send(greeting);
    const { id } = await qemu.receive();
    qemu.send({ return: {}, id }, { event: 'STOP', data: {} });
    expect(await event).toBe('STOP');
    expect(t.monitor.state.is).toBe('connected');
  });
});

describe('a connection that cannot be made says why:', () => {
  it('no such socket is absent', async () => {
    await using dir = await testDir();
    await using monitor = new Monitor({ path: `${dir.path}/none.sock` });
    const error = await firstFailure(monitor);
    expect(error).toBeInstanceOf(ConnectFailed);
    expect(error).toMatchObject({ why: 'absent', path: `${dir.path}/none.sock` });
  });

  it('a socket file without its server is refused', async () => {
    await using t = await rig();
    const stale = `${t.path}.stale`;
    await rename(t.path, stale);
    t.server.stopListening();
    await using monitor = new Monitor({ path: stale });
    expect(await firstFailure(monitor)).toMatchObject({ why: 'refused' });
  });

  it('a plain file is refused', async () => {
    await using dir = await testDir();
    await writeFile(`${dir.path}/file`, '');
    await using monitor = new Monitor({ path: `${dir.path}/file` });
    expect(await firstFailure(monitor)).toMatchObject({ why: 'refused' });
  });

  it('a path that is too long for a socket failed', async () => {
    await using monitor = new Monitor({ path: `/tmp/${'x'.repeat(200)}` });
    expect(await firstFailure(monitor)).toMatchObject({ name: 'ConnectFailed', why: 'failed' });
  });

  it('a monitor that another client holds is busy: no greeting while there is room in its backlog', async () => {
    await using dir = await testDir();
    await using held = await HeldQmp.hold(`${dir.path}/qmp.sock`);
    await using monitor = new Monitor({ path: held.path, greetingTimeoutMs: 50 });
    const error = await firstFailure(monitor);
    expect(error).toMatchObject({ why: 'busy' });
    expect(String(error)).toMatch(
      /another client holds this QMP socket, or QEMU does not run.*no greeting within 50 ms/,
    );
  });

  it('a monitor that another client holds is busy: EAGAIN when its backlog is full', async () => {
    await using dir = await testDir();
    await using held = await HeldQmp.hold(`${dir.path}/qmp.sock`);
    const waiting = [connect(held.path), connect(held.path)];
    await Promise.all(waiting.map((socket) => once(socket, 'connect')));
    await using monitor = new Monitor({ path: held.path });
    const error = await firstFailure(monitor);
    expect(error).toMatchObject({ why: 'busy', cause: { code: 'EAGAIN' } });
    for (const socket of waiting) socket.destroy();
  });

  it('a server that never greets is busy, and gets nothing written: QEMU would execute it later', async () => {
    await using t = await rig({ greetingTimeoutMs: 50 });
    const failure = firstFailure(t.monitor);
    const qemu = await t.server.accept();
    expect(await failure).toMatchObject({ why: 'busy' });
    await t.monitor.close();
    await qemu.closed;
    await expect(Promise.race([qemu.receive(), Promise.resolve('nothing')])).resolves.toBe('nothing');
  });

  it('a server that never answers the negotiation is busy', async () => {
    await using t = await rig({ greetingTimeoutMs: 50 });
    const failure = firstFailure(t.monitor);
    (await t.server.accept()).send(greeting);
    const error = await failure;
    expect(error).toMatchObject({ why: 'busy' });
    expect(String(error)).toMatch(/no answer to the negotiation within 50 ms/);
  });

  it.each([
    ['text that is not JSON', 'QEMU 7.2.22 monitor - type help\r\n'],
    ['JSON that is not a message', '[1]\n'],
    ['an event before the greeting', '{"event":"STOP"}\n'],
    ['an answer before the greeting', '{"return":{},"id":"negotiation"}\n'],
    ['a greeting without a version', '{"QMP":{}}\n'],
    ['more than the longest message', 'x'.repeat(2000)],
    ['two greetings', `${JSON.stringify(greeting)}\n${JSON.stringify(greeting)}\n`],
    ['an answer to another command than the negotiation', `${JSON.stringify(greeting)}\n{"return":{},"id":1}\n`],
    ['an error without id', `${JSON.stringify(greeting)}\n{"error":{"class":"C","desc":"parse error"}}\n`],
  ])('%s is not QMP', async (_what, bytes) => {
    await using t = await rig({ maxMessageBytes: 1000 });
    const failure = firstFailure(t.monitor);
    const qemu = await t.server.accept();
    qemu.write(bytes);
    expect(await failure).toMatchObject({ name: 'ConnectFailed', why: 'not-qmp' });
    await qemu.closed;
  });

  it('a negotiation that is refused failed, with the reason', async () => {
    await using t = await rig();
    const failure = firstFailure(t.monitor);
    const qemu = await t.server.accept();
    qemu.send(greeting);
    qemu.refuse(await qemu.receive(), 'not today');
    const error = await failure;
    expect(error).toMatchObject({ why: 'failed' });
    expect(String(error)).toMatch(/not today/);
  });

  it('a server that closes before its greeting, or half-way through it, failed', async () => {
    await using t = await rig();
    const failure = firstFailure(t.monitor);
    (await t.server.accept()).end();
    expect(await failure).toMatchObject({ why: 'failed' });
    const again = nextState(t.monitor, 'disconnected');
    (await t.server.accept()).end('{"QMP": {"ver');
    expect((await again).error).toMatchObject({ why: 'failed' });
  });

  it('a server that closes during the negotiation failed', async () => {
    await using t = await rig();
    const failure = firstFailure(t.monitor);
    const qemu = await t.server.accept();
    qemu.send(greeting);
    await qemu.receive();
    qemu.destroy();
    expect(await failure).toMatchObject({ name: 'ConnectFailed', why: 'failed' });
  });
});

describe('a connection that breaks', () => {
  it('while idle is Disconnected and is made again, with the next generation', async () => {
    await using t = await rig();
    t.monitor.start();
    const first = await t.server.connected();
    await t.monitor.ready();
    const lost = nextState(t.monitor, 'disconnected');
    first.end();
    const { error, retryInMs } = await lost;
    expect(error).toBeInstanceOf(Disconnected);
    expect(error).toMatchObject({ why: 'ended' });
    expect(retryInMs).toBeGreaterThanOrEqual(50);
    expect(retryInMs).toBeLessThanOrEqual(100);
    const back = nextState(t.monitor, 'connected');
    await t.server.connected();
    expect((await back).generation).toBe(2);
  });

  it('leaves written commands OutcomeUnknown and waiting ones NotSent, and the next connection is not asked them', async () => {
    await using t = await rig();
    t.monitor.start();
    const first = await t.server.connected();
    await t.monitor.ready();
    const written = Array.from({ length: 7 }, () => t.monitor.execute({ execute: 'written' }));
    const oob = t.monitor.executeOob({ execute: 'yank' });
    const waiting = t.monitor.execute({ execute: 'waiting' });
    const settled = Promise.allSettled([...written, oob, waiting]);
    for (let n = 0; n < 8; n++) await first.receive();
    first.destroy();
    const reasons = (await settled).map((one) => (one.status === 'rejected' ? (one.reason as unknown) : one));
    for (const reason of reasons.slice(0, 8)) {
      expect(reason).toBeInstanceOf(OutcomeUnknown);
      expect(reason).toMatchObject({ why: 'disconnected', cause: { name: 'Disconnected' } });
    }
    expect(reasons[8]).toBeInstanceOf(NotSent);

    const second = await t.server.connected();
    await t.monitor.ready();
    const next = t.monitor.execute({ execute: 'next' });
    const request = await second.receive();
    expect(request.execute).toBe('next');
    second.reply(request, 2);
    expect(await next).toBe(2);
  });

  it('with ECONNRESET is Disconnected like one that ends', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    const lost = nextState(t.monitor, 'disconnected');
    const answer = t.monitor.execute({ execute: 'stop' });
    qemu.destroy(); // with the command still unread
    await expect(answer).rejects.toMatchObject({ name: 'OutcomeUnknown', why: 'disconnected' });
    expect((await lost).error).toMatchObject({ why: 'failed', cause: { code: 'ECONNRESET' } });
  });

  it('in the middle of an answer says so, and the command is OutcomeUnknown', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    const lost = nextState(t.monitor, 'disconnected');
    const answer = t.monitor.execute({ execute: 'stop' });
    await qemu.receive();
    qemu.end('{"return": {}, "id"');
    await expect(answer).rejects.toBeInstanceOf(OutcomeUnknown);
    expect(String((await lost).error)).toMatch(/in the middle of a message, after 19 bytes/);
  });

  it.each([
    ['garbage', 'hello\n'],
    ['an error without id', '{"error":{"class":"GenericError","desc":"JSON parse error"}}\n'],
    ['a second greeting', `${JSON.stringify(greeting)}\n`],
    ['a message of no known kind', '{"hello":1}\n'],
  ])('by %s gives what came before it, and ends', async (_what, bytes) => {
    await using t = await rig();
    const heard: string[] = [];
    t.monitor.onEvent(({ event }) => heard.push(event));
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    const lost = nextState(t.monitor, 'disconnected');
    const [answered, unanswered] = [
      t.monitor.execute({ execute: 'answered' }),
      t.monitor.execute({ execute: 'unanswered' }),
    ];
    const { id } = await qemu.receive();
    qemu.write(`{"event":"STOP"}\n{"return":1,"id":${JSON.stringify(id)}}\n${bytes}{"event":"AFTER"}\n`);
    await expect(unanswered).rejects.toMatchObject({ name: 'OutcomeUnknown', why: 'disconnected' });
    expect(await answered).toBe(1);
    expect((await lost).error).toMatchObject({ name: 'Disconnected', why: 'not-qmp' });
    expect(heard).toEqual(['STOP']);
    await qemu.closed;
  });

  it('takes no command while there is none: NotSent with the reason', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    const lost = nextState(t.monitor, 'disconnected');
    qemu.end();
    const { error } = await lost;
    await expect(t.monitor.execute({ execute: 'stop' })).rejects.toMatchObject({
      name: 'NotSent',
      cause: error,
    });
    await expect(t.monitor.executeOob({ execute: 'stop' })).rejects.toBeInstanceOf(NotSent);
  });
});

describe('the monitor keeps on trying', () => {
  it('until a socket appears that was absent', async () => {
    await using dir = await testDir();
    const path = `${dir.path}/qmp.sock`;
    await using monitor = new Monitor({ path });
    await firstFailure(monitor);
    await using server = await ScriptedQmp.listen(path);
    await server.connected();
    await monitor.ready();
    expect(monitor.state).toMatchObject({ is: 'connected', generation: 1 });
    await monitor.close();
  });

  it('and finds the new server when the socket was replaced', async () => {
    await using t = await rig();
    t.monitor.start();
    const old = await t.server.connected();
    await t.monitor.ready();
    t.server.stopListening();
    await using server = await ScriptedQmp.listen(t.path);
    const back = nextState(t.monitor, 'connected');
    old.destroy();
    const qemu = await server.connected();
    expect((await back).generation).toBe(2);
    const answer = t.monitor.execute({ execute: 'query-name' });
    qemu.reply(await qemu.receive(), 'new');
    expect(await answer).toBe('new');
    await t.monitor.close();
  });

  it.each([
    ['short ones again after a connection that lasted', 5_000, (qemu: Connection) => qemu.end(), 100],
    ['no shorter ones after one that broke at once', 0, (qemu: Connection) => qemu.end(), 800],
    ['no shorter ones after one that was not QMP', 60_000, (qemu: Connection) => qemu.write('no QMP\n'), 800],
  ] as const)('with longer waits after each failure, and %s', async (_what, lastsMs, breaks, last) => {
    await using t = await rig();
    const waits: number[] = [];
    t.monitor.onState((state) => {
      if (state.is === 'disconnected') waits.push(state.retryInMs);
    });
    const clock = vi.spyOn(performance, 'now');
    t.monitor.start();
    (await t.server.accept()).end();
    (await t.server.accept()).end();
    (await t.server.accept()).end();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    const since = performance.now();
    clock.mockImplementation(() => since + lastsMs);
    const lost = nextState(t.monitor, 'disconnected');
    breaks(qemu);
    await lost;
    clock.mockRestore();
    const highest = [100, 200, 400, last];
    expect(waits).toHaveLength(4);
    for (const [index, most] of highest.entries()) {
      expect(waits[index]).toBeGreaterThanOrEqual(most / 2);
      expect(waits[index]).toBeLessThanOrEqual(most);
    }
  });

  it('and reports each change once, in order', async () => {
    await using t = await rig();
    const states: string[] = [];
    t.monitor.onState(({ is: state }) => states.push(state));
    t.monitor.start();
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    qemu.end();
    await t.server.connected();
    await t.monitor.ready();
    await t.monitor.close();
    await t.monitor.close();
    expect(states).toEqual(['connecting', 'connected', 'disconnected', 'connecting', 'connected', 'closed']);
  });
});

describe('a socket that may not be a monitor', () => {
  const MINUTES_MS = 150_000;
  const unsure = { mayBeAnother: true };

  it('and takes connections in silence is left alone for minutes, long before it would be busy', async () => {
    await using t = await rig({ ...unsure, greetingTimeoutMs: 60_000 });
    const failure = nextState(t.monitor, 'disconnected');
    t.monitor.start();
    const other = await t.server.accept();
    expect(await failure).toMatchObject({
      error: { why: 'silent' },
      retryInMs: expect.toSatisfy((ms) => ms >= MINUTES_MS),
    });
    expect(t.monitor.isGivenUp).toBe(true);
    await other.closed;
  });

  it('and sends something else is left alone for minutes', async () => {
    await using t = await rig(unsure);
    const failure = nextState(t.monitor, 'disconnected');
    t.monitor.start();
    (await t.server.accept()).write('RFB 003.008\n');
    expect(await failure).toMatchObject({
      error: { why: 'not-qmp' },
      retryInMs: expect.toSatisfy((ms) => ms >= MINUTES_MS),
    });
  });

  it('and whose client may be another one is not given up', async () => {
    await using dir = await testDir();
    await using held = await HeldQmp.hold(`${dir.path}/qmp.sock`);
    await using monitor = new Monitor({ path: held.path, greetingTimeoutMs: 2_500, ...unsure });
    const failure = nextState(monitor, 'disconnected');
    monitor.start();
    expect(await failure).toMatchObject({ error: { why: 'busy' }, retryInMs: expect.toSatisfy((ms) => ms <= 100) });
    expect(monitor.isGivenUp).toBe(false);
  });

  it('is tried at once when its name is another file, and is a monitor then', async () => {
    await using t = await rig(unsure);
    const failure = nextState(t.monitor, 'disconnected');
    t.monitor.start();
    (await t.server.accept()).write('login: \n');
    await failure;
    t.monitor.tryAgain();
    await t.server.connected();
    await t.monitor.ready();
    expect(t.monitor.isGivenUp).toBe(false);
  });

  it('and has been one is not given up: its trouble is the present error', async () => {
    await using t = await rig(unsure);
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    qemu.end();
    const failure = nextState(t.monitor, 'disconnected');
    (await t.server.accept()).write('garbage\n');
    await failure;
    const again = nextState(t.monitor, 'disconnected');
    expect(await again).toMatchObject({ error: { why: 'not-qmp' } });
    expect(t.monitor.isGivenUp).toBe(false);
  });

  it('but is asked as usual if its owner has named it', async () => {
    await using t = await rig();
    const failure = nextState(t.monitor, 'disconnected');
    t.monitor.start();
    (await t.server.accept()).write('garbage\n');
    expect(await failure).toMatchObject({ error: { why: 'not-qmp' }, retryInMs: expect.toSatisfy((ms) => ms <= 100) });
    expect(t.monitor.isGivenUp).toBe(false);
  });
});

describe('ready', () => {
  it('resolves at once when connected, rejects with the reason of the signal, and when closed', async () => {
    await using t = await rig();
    const reason = new Error('enough');
    await expect(t.monitor.ready(AbortSignal.abort(reason))).rejects.toBe(reason);
    const abort = new AbortController();
    const aborted = t.monitor.ready(abort.signal);
    abort.abort(reason);
    await expect(aborted).rejects.toBe(reason);

    t.monitor.start();
    await t.server.connected();
    await t.monitor.ready();
    await t.monitor.ready();
    await t.monitor.close();
    await expect(t.monitor.ready()).rejects.toMatchObject({ name: 'Disconnected', why: 'closed' });
  });

  it('rejects when the monitor is closed in the meantime', async () => {
    await using t = await rig();
    const ready = t.monitor.ready();
    await Promise.all([
      expect(ready).rejects.toMatchObject({ name: 'Disconnected', why: 'closed' }),
      t.monitor.close(),
    ]);
  });
});

describe('close', () => {
  it('before start leaves a monitor that never connects', async () => {
    await using t = await rig();
    await t.monitor.close();
    t.monitor.start();
    expect(t.monitor.state).toEqual({ is: 'closed' });
    await expect(t.monitor.execute({ execute: 'stop' })).rejects.toBeInstanceOf(NotSent);
    expect(t.server.connectionCount).toBe(0);
  });

  it('while connecting ends the connection', async () => {
    await using t = await rig();
    t.monitor.start();
    await t.monitor.close();
    expect(t.monitor.state).toEqual({ is: 'closed' });
  });

  it('while waiting for the greeting ends the connection', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.accept();
    await t.monitor.close();
    await expect(qemu.closed).resolves.toBeUndefined();
  });

  it('while negotiating ends the connection', async () => {
    await using t = await rig();
    t.monitor.start();
    const qemu = await t.server.accept();
    qemu.send(greeting);
    await qemu.receive();
    await t.monitor.close();
    await expect(qemu.closed).resolves.toBeUndefined();
  });

  it('while waiting for the next attempt makes no further one', async () => {
    await using t = await rig();
    const failure = firstFailure(t.monitor);
    (await t.server.accept()).end();
    await failure;
    await t.monitor.close();
    await using other = new Monitor({ path: t.path });
    // Longer than the wait of the closed one: the first attempt of another, its failure, and its second.
    const otherFailure = firstFailure(other);
    (await t.server.accept()).end();
    await otherFailure;
    (await t.server.accept()).end();
    await nextState(other, 'disconnected');
    expect(t.server.connectionCount).toBe(3);
  });

  it('rejects all pending commands, and is reported to listeners once', async () => {
    await using t = await rig();
    const states: string[] = [];
    t.monitor.start();
    const qemu = await t.server.connected();
    await t.monitor.ready();
    t.monitor.onState(({ is: state }) => states.push(state));
    const pending = Promise.allSettled(Array.from({ length: 8 }, (_, n) => t.monitor.execute({ execute: `${n}` })));
    await Promise.all([t.monitor.close(), t.monitor.close()]);
    const reasons = (await pending).map((one) => (one.status === 'rejected' ? String(one.reason) : ''));
    expect(reasons.slice(0, 7)).toEqual(Array(7).fill(expect.stringMatching(/^OutcomeUnknown/)));
    expect(reasons[7]).toMatch(/^NotSent/);
    expect(states).toEqual(['closed']);
    await qemu.closed;
  });

  it.each(['connecting', 'connected', 'disconnected'] as const)(
    'from a listener that hears of %s ends everything',
    async (when) => {
      await using t = await rig();
      const states: string[] = [];
      const closed = new Promise<void>((resolve) => {
        t.monitor.onState(({ is: state }) => {
          states.push(state);
          if (state === when) resolve(t.monitor.close());
        });
      });
      t.monitor.start();
      if (when !== 'connecting') {
        const qemu = await t.server.connected();
        if (when === 'disconnected') qemu.end();
      }
      await closed;
      expect(states.at(-1)).toBe('closed');
      expect(t.monitor.state).toEqual({ is: 'closed' });
    },
  );

  it('leaves no timer and no socket behind', async () => {
    await using dir = await testDir();
    const before = handles();
    {
      await using server = await ScriptedQmp.listen(`${dir.path}/qmp.sock`);
      await using monitor = new Monitor({ path: server.path });
      await using absent = new Monitor({ path: `${dir.path}/absent.sock` });
      await firstFailure(absent);
      monitor.start();
      const qemu = await server.connected();
      await monitor.ready();
      const answered = monitor.execute({ execute: 'answered' });
      qemu.reply(await qemu.receive());
      await answered;
      const hung = Promise.allSettled([monitor.execute({ execute: 'hung' })]);
      await monitor.close();
      await hung;
    }
    // An older one may have ended by itself.
    const more = handles();
    for (const known of before) if (more.includes(known)) more.splice(more.indexOf(known), 1);
    expect(more).toEqual([]);
  });
});

it('an empty path is a mistake of the caller, not a TCP port', () => {
  expect(() => new Monitor({ path: '' })).toThrow(RangeError);
});
