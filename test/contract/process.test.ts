/** `blockjobd serve` as a process: its command line, its socket, and how it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { credentials, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { DomainServiceClient, GetDomainRequest } from '../../generated/blockjob/v1/domain_service.ts';
import { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { HeldQmp, ScriptedQmp } from '../support/fake-qemu/scripted-qmp.ts';
import { run, type TestDir, testDir, within } from '../support/real-qemu/qemu.ts';
import { refusalOf } from '../support/service/caller.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';
import { TRANSPORTS } from '../support/service/stub-server.ts';

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** A `blockjobd serve`, ended in any way. */
class Serve implements AsyncDisposable {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  #said = '';
  #heard = Promise.withResolvers<void>();

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, ['src/main.ts', 'serve', ...args], {
      cwd: REPOSITORY,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text;
        const heard = this.#heard;
        this.#heard = Promise.withResolvers();
        heard.resolve();
      });
    this.ended = new Promise((resolve) => {
      this.#child.on('close', (code, signal) => resolve({ code, signal, stderr: this.#said }));
    });
  }

  /** Resolves when it has printed this, on either stream, with all that it has printed. */
  async says(text: string): Promise<string> {
    const said = async () => {
      while (!this.#said.includes(text)) await this.#heard.promise;
    };
    const early = this.ended.then(({ stderr }) => {
      throw new Error(`it has ended, and never said ${text}: ${stderr}`);
    });
    await within(60_000, `${text}; it said: ${this.#said}`, Promise.race([said(), early]));
    early.catch(() => undefined);
    return this.#said;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}

function flags(dir: TestDir, listen: string, ...more: readonly string[]): string[] {
  return [
    '--page',
    'off',
    '--metrics',
    'off',
    '--listen',
    listen,
    '--state-dir',
    `${dir.path}/state`,
    '--qmp',
    `vm1=${dir.path}/qmp.sock`,
    ...more,
  ];
}

async function fails(...given: readonly string[]): Promise<Ended> {
  await using serve = new Serve(given);
  return await within(20_000, `the end of serve ${given.join(' ')}`, serve.ended);
}

describe('its command line', () => {
  test.each([
    [['--listen', '0.0.0.0:1'], '0.0.0.0 is not loopback'],
    [['--listen', '[::]:1'], ':: is not loopback'],
    [['--listen', '192.0.2.1:1'], '192.0.2.1 is not loopback'],
    [['--listen', 'example.org:1'], 'example.org is not loopback'],
    [['--listen', '127.0.0.1'], 'HOST:PORT'],
    [['--listen', '127.0.0.1:65536'], 'HOST:PORT'],
    [['--listen', 'unix:relative.sock'], 'absolute path'],
    [['--listen', `unix:/${'x'.repeat(107)}`], '107 bytes'],
    [['--listen', ''], 'HOST:PORT'],
    [['--qmp', 'vm1'], 'NAME=SOCKET'],
    [['--qmp', '=/x'], 'NAME=SOCKET'],
    [['--qmp', 'vm1=/x', '--qmp-pattern', '*.qmp'], 'needs --qmp-dir'],
    [['--qmp-dir', '/x', '--qmp-pattern', 'x/*.qmp'], 'without its folder'],
    [['--page', '0.0.0.0:50080'], '0.0.0.0 is not loopback'],
    [['--page', '[::]:50080'], "it has no callers' names"],
    [['--page', 'unix:/run/page.sock'], 'HOST:PORT'],
    [['--page', 'on'], 'HOST:PORT'],
    [['--metrics', 'unix:/run/metrics.sock'], 'HOST:PORT'],
    [['--metrics', 'on'], 'HOST:PORT'],
    [['--drain-seconds', '-1'], '0 to 3600'],
    [['--drain-seconds', 'soon'], '0 to 3600'],
    [['--log-level', 'loud'], 'Allowed choices'],
    [['--no-such-flag'], 'unknown option'],
    [[], 'name at least one VM'],
    [['word', '--qmp-dir', '/tmp'], 'too many arguments'],
  ])('%j is refused in a sentence', async (given, sentence) => {
    const { code, stderr } = await fails(...given);
    expect(code).toBe(1);
    expect(stderr).toContain(sentence);
    expect(stderr).not.toMatch(/^ +at /m);
  });

  test('a problem at the start is reported in one sentence: a port in use, a path that is not a folder', async () => {
    await using dir = await testDir('bj-serve-');
    const other = createServer();
    await once(other.listen(0, '127.0.0.1'), 'listening');
    using _ = { [Symbol.dispose]: () => void other.close() };
    const address = other.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const inUse = await fails(...flags(dir, `127.0.0.1:${port}`, '--log-level', 'silent'));
    expect(inUse.code).toBe(1);
    expect(inUse.stderr).toMatch(/^blockjobd: .*EADDRINUSE.*\n$/s);
    const listen = `unix:${dir.path}/api.sock`;
    const pageInUse = await fails(...flags(dir, listen, '--log-level', 'silent', '--page', `127.0.0.1:${port}`));
    expect(pageInUse.code).toBe(1);
    expect(pageInUse.stderr).toMatch(/^blockjobd: the page cannot be served .*the port is in use; .* --page off\n$/);
    const metricsInUse = await fails(...flags(dir, listen, '--log-level', 'silent', '--metrics', `127.0.0.1:${port}`));
    expect(metricsInUse.code).toBe(1);
    expect(metricsInUse.stderr).toMatch(
      /^blockjobd: metrics cannot be served .*the port is in use; .* --metrics off\n$/,
    );
    await writeFile(`${dir.path}/file`, '');
    const noFolder = await fails('--qmp', 'vm1=/x', '--state-dir', `${dir.path}/file`, '--log-level', 'silent');
    expect(noFolder.code).toBe(1);
    expect(noFolder.stderr).toMatch(/^blockjobd: .*\n$/);
  });
});

/** Nobody else gets the port, whichever process has it. */
async function occupied(port: number): Promise<Disposable> {
  const holder = createServer();
  const held = Promise.withResolvers<void>();
  holder.once('error', () => held.resolve());
  holder.listen(port, '127.0.0.1', () => held.resolve());
  await held.promise;
  return { [Symbol.dispose]: () => void holder.close() };
}

test('ports that no option asked for do not stop the service if others use them', async () => {
  await using dir = await testDir('bj-serve-');
  using _page = await occupied(50_080);
  using _metrics = await occupied(9464);
  await using serve = new Serve(['--listen', '127.0.0.1:0', '--state-dir', `${dir.path}/state`, '--qmp-dir', dir.path]);
  await serve.says('blockjobd serves on');
  serve.kill('SIGTERM');
  const { code, stderr } = await serve.ended;
  expect(code).toBe(0);
  expect(stderr).toContain('the page cannot be served on 127.0.0.1:50080');
  expect(stderr).toContain('metrics cannot be served on 127.0.0.1:9464');
});

test('there is no page by default if not every user of the machine may see everything', async () => {
  await using dir = await testDir('bj-serve-');
  const args = ['--listen', `unix:${dir.path}/api.sock`, '--state-dir', `${dir.path}/state`, '--qmp-dir', dir.path];
  for (const [more, hasPage] of [
    [[], false],
    [['--page', '127.0.0.1:0'], true],
  ] as const) {
    await using serve = new Serve([...args, ...more, '--metrics', 'off']);
    await serve.says('blockjobd serves on');
    serve.kill('SIGTERM');
    const { stderr } = await serve.ended;
    expect(stderr.includes('its page is http://127.0.0.1:')).toBe(hasPage);
  }
});

describe('its unix socket', () => {
  test('is accessible to its owner alone, and is removed with the service', async () => {
    await using dir = await testDir('bj-serve-');
    const path = `${dir.path}/api.sock`;
    await using serve = new Serve(flags(dir, `unix:${path}`));
    await serve.says('serves on');
    expect((await lstat(path)).mode & 0o777).toBe(0o600);
    serve.kill('SIGTERM');
    expect(await within(10_000, 'its end', serve.ended)).toMatchObject({ code: 0, signal: null });
    expect(existsSync(path)).toBe(false);
  });

  test('that a killed service left is replaced', async () => {
    await using dir = await testDir('bj-serve-');
    const path = `${dir.path}/api.sock`;
    {
      await using killed = new Serve(flags(dir, `unix:${path}`));
      await killed.says('serves on');
    }
    expect((await lstat(path)).isSocket()).toBe(true);
    await using serve = new Serve(flags(dir, `unix:${path}`));
    await serve.says('serves on');
    expect((await lstat(path)).mode & 0o777).toBe(0o600);
  });

  test('that another service listens on is refused, and stays', async () => {
    await using dir = await testDir('bj-serve-');
    const path = `${dir.path}/api.sock`;
    await using first = new Serve(flags(dir, `unix:${path}`));
    await first.says('serves on');
    const state = ['--state-dir', `${dir.path}/state-of-second`];
    const second = await fails(...flags(dir, `unix:${path}`, '--log-level', 'silent', ...state));
    expect(second).toMatchObject({ code: 1, stderr: expect.stringMatching(/^blockjobd: .*EADDRINUSE.*\n$/s) });
    await reaches(path);
  });

  test('that another program listens on and is too busy to answer is refused, and stays', async () => {
    await using dir = await testDir('bj-serve-');
    const path = `${dir.path}/api.sock`;
    await using _held = await HeldQmp.hold(path);
    // Two fit into its backlog; the next one gets EAGAIN.
    const waiting = [connect(path), connect(path)];
    using _ = { [Symbol.dispose]: () => waiting.forEach((socket) => void socket.destroy()) };
    await Promise.all(waiting.map(async (socket) => await once(socket, 'connect')));
    const { ino } = await lstat(path);
    const refusedStart = await fails(...flags(dir, `unix:${path}`, '--log-level', 'silent'));
    expect(refusedStart).toMatchObject({ code: 1, stderr: expect.stringContaining('EADDRINUSE') });
    expect((await lstat(path)).ino).toBe(ino);
  });

  test('that is a file instead of a socket is refused, and the file stays', async () => {
    await using dir = await testDir('bj-serve-');
    const path = `${dir.path}/api.sock`;
    await writeFile(path, 'precious');
    const refusedStart = await fails(...flags(dir, `unix:${path}`, '--log-level', 'silent'));
    expect(refusedStart).toMatchObject({ code: 1, stderr: expect.stringContaining('EADDRINUSE') });
    expect(await readFile(path, 'utf8')).toBe('precious');
  });
});

async function reaches(path: string): Promise<void> {
  const socket = connect(path);
  await once(socket, 'connect');
  socket.destroy();
}

describe.each(TRANSPORTS)('its end, over %s', (transport) => {
  const address = (dir: TestDir) => (transport === 'unix' ? `unix:${dir.path}/api.sock` : '127.0.0.1:0');

  test('SIGTERM: an open watch ends UNAVAILABLE, new calls are refused, exit 0; the job goes on', async () => {
    await using dir = await testDir('bj-serve-');
    const chain = [{ format: 'qcow2', path: `${dir.path}/disk.qcow2` }] as const;
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    await using qemu = await FakeQemu.start({
      socketPath: `${dir.path}/qmp.sock`,
      name: 'vm1',
      disks,
      sizeBytes: 65_536,
    });
    await mkdir(`${dir.path}/copies`);
    await using service = await Service.start({
      dir: dir.path,
      qmp: { vm1: `${dir.path}/qmp.sock` },
      allow: [`${dir.path}/copies`],
      listen: address(dir),
    });
    await service.domainUp('vm1');
    const file = { $case: 'file', value: `${dir.path}/copies/a` } as const;
    const { id } = await service.startCopy({ disk: { domain: 'vm1', disk: 'vd0' }, destination: { target: file } });
    const seen = Promise.withResolvers<void>();
    const watching = (async () => {
      for await (const _event of service.watch(id)) seen.resolve();
    })().catch((error: unknown) => error);
    await within(20_000, 'the watch', seen.promise);
    const began = performance.now();
    const stopped = service.stop(); // SIGTERM
    const why = refusalOf(await within(20_000, 'the end of the watch', watching));
    expect(why).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
    const late = new DomainServiceClient(service.address, credentials.createInsecure());
    using _ = { [Symbol.dispose]: () => late.close() };
    const refusedCall = new Promise((resolve) => {
      late.getDomain(GetDomainRequest.fromPartial({ domain: 'vm1' }), (error) => resolve(error));
    });
    expect(await refusedCall).toMatchObject({ code: status.UNAVAILABLE });
    expect(await stopped).toBe(0);
    // Not for as long as a call may take.
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(qemu.job(id).status).toBe('running');
  });

  test('a hanging call gets the grace period and no more; a second SIGTERM does not wait', async () => {
    for (const [signals, end, answered] of [
      [1, { code: 0, signal: null }, status.UNAVAILABLE],
      // A service that was killed says nothing more: its client sees only that.
      [2, { code: null, signal: 'SIGTERM' }, expect.any(Number)],
    ] as const) {
      await using dir = await testDir('bj-serve-');
      await using hung = await ScriptedQmp.listen(`${dir.path}/qmp.sock`);
      const seconds = signals === 1 ? '1' : '600';
      await using serve = new Serve(flags(dir, address(dir), '--drain-seconds', seconds));
      const qmp = await hung.connected();
      for (const answer of [{ name: 'vm1' }, { UUID: '00000000-0000-0000-0000-000000000000' }, [], []])
        qmp.reply(await qmp.receive(), answer);
      await serve.says('QEMU is connected');
      const where = /serves on (\S+)/.exec(await serve.says('serves on'))?.[1] ?? '';
      const client = new DomainServiceClient(where, credentials.createInsecure());
      using _ = { [Symbol.dispose]: () => client.close() };
      const call = new Promise((resolve) => {
        client.getDomain(GetDomainRequest.fromPartial({ domain: 'vm1' }), (error) => resolve(error));
      });
      await qmp.receive(); // the call has come as far as QEMU, which does not answer
      serve.kill('SIGTERM');
      await serve.says('Stopping');
      if (signals === 2) serve.kill('SIGTERM');
      expect(await within(60_000, 'its end', serve.ended)).toMatchObject(end);
      expect(await call).toMatchObject({ code: answered });
    }
  });
});

test('help and version are not errors', async () => {
  for (const flag of ['--help', '--version']) {
    const { code } = await run(process.execPath, [`${REPOSITORY}/src/main.ts`, flag]);
    expect(code).toBe(0);
  }
});
