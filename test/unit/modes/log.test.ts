/** The log as a process: its reader is stuck, slow or gone, its disk is full, and the process crashes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { present } from '../../support/checks.ts';
import { run, testDir, within } from '../../support/real-qemu/qemu.ts';

const SCRIPT = join(import.meta.dirname, '../../support/service/log-writer.ts');
const MIB = 1024 * 1024;
const LINES = 20_000;

interface Fares {
  readonly step: string;
  readonly rss: number;
  readonly dropped: number;
  readonly ms: number;
}

class Writer implements AsyncDisposable {
  readonly child;
  readonly ended: Promise<{ code: number | null; ms: number }>;
  readonly #fares: AsyncIterator<string>;

  constructor(stderr: number | 'pipe', ...args: readonly string[]) {
    this.child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['pipe', 'pipe', stderr] });
    this.#fares = createInterface({ input: this.output('stdout') })[Symbol.asyncIterator]();
    const began = performance.now();
    this.ended = once(this.child, 'exit').then(([code]: unknown[]) => ({
      code: code as number | null,
      ms: performance.now() - began,
    }));
  }

  output(name: 'stdout' | 'stderr'): Readable {
    return present(this.child[name] ?? undefined, name);
  }

  async fares(): Promise<Fares> {
    const { value } = await within(20_000, 'word of the process that logs', this.#fares.next());
    return JSON.parse(String(value)) as Fares;
  }

  ask(): void {
    this.child.stdin?.write('?');
  }

  async end(): Promise<{ code: number | null; ms: number }> {
    this.child.stdin?.end();
    return await within(20_000, 'end of the process that logs', this.ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly n?: number;
  readonly lines?: number;
  readonly err?: { readonly stack: string };
}

function linesOf(text: string): readonly Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

/** The lines that came, the gaps between them, and the number of missing lines that the log reports. */
function tally(lines: readonly Line[]) {
  const numbers = lines.flatMap(({ n }) => n ?? []);
  const told = lines.reduce((sum, { lines: missing = 0 }) => sum + missing, 0);
  return { came: numbers.length, told, isInOrder: numbers.every((n, at) => at === 0 || n > present(numbers[at - 1])) };
}

interface Reader extends AsyncDisposable {
  readonly fd: number | 'pipe';
  /** Reads until this text has come. */
  readonly until: (writer: Writer, last: string) => Promise<string>;
}

async function pipeReader(dir: string): Promise<Reader> {
  const path = join(dir, 'fifo');
  await run('mkfifo', [path]);
  const reading = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  const writing = await open(path, constants.O_WRONLY);
  const until = async (_writer: Writer, last: string) => {
    let text = '';
    const buffer = Buffer.alloc(65_536);
    while (!text.includes(last)) text += await readSome(reading, buffer);
    return text;
  };
  return {
    fd: writing.fd,
    until,
    [Symbol.asyncDispose]: async () => {
      await reading.close();
      await writing.close();
    },
  };
}

async function readSome(file: FileHandle, buffer: Buffer): Promise<string> {
  try {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
    await new Promise((resolve) => setImmediate(resolve));
    return '';
  }
}

function socketReader(): Reader {
  return { fd: 'pipe', until: readUntil, [Symbol.asyncDispose]: async () => await Promise.resolve() };
}

async function readUntil(writer: Writer, last: string): Promise<string> {
  let text = '';
  for await (const chunk of writer.output('stderr').setEncoding('utf8')) {
    text += String(chunk);
    if (text.includes(last)) break;
  }
  return text;
}

const READERS = { pipe: pipeReader, socket: async () => await Promise.resolve(socketReader()) };

describe.each(['pipe', 'socket'] as const)('a reader of a %s', (kind) => {
  test('that is stuck stops nobody and costs little; missing lines are counted, and reported in their place', async () => {
    await using dir = await testDir();
    await using reader = await READERS[kind](dir.path);
    await using writer = new Writer(reader.fd, String(LINES));
    const { rss, dropped } = await writer.fares();
    expect(dropped).toBeGreaterThan(LINES / 2);
    expect(rss).toBeLessThan(160 * MIB);
    // It goes on when it is read again.
    const reading = reader.until(writer, '"msg":"asked"');
    const asking = setInterval(() => writer.ask(), 100);
    const lines = linesOf(await within(20_000, 'the log', reading));
    clearInterval(asking);
    const { came, told, isInOrder } = tally(lines);
    expect(isInOrder).toBe(true);
    expect({ sum: came + told, told }).toEqual({ sum: LINES + (told - dropped), told });
    expect(lines.findIndex(({ lines: missing }) => missing !== undefined)).toBe(came);
    expect((await writer.end()).code).toBe(0);
  });

  test('that stays stuck does not keep the process from its end', async () => {
    await using dir = await testDir();
    await using reader = await READERS[kind](dir.path);
    await using writer = new Writer(reader.fd, String(LINES));
    await writer.fares();
    expect((await writer.end()).code).toBe(0);
  });

  test('that stays stuck does not keep the process from a crash, either', async () => {
    await using dir = await testDir();
    await using reader = await READERS[kind](dir.path);
    await using writer = new Writer(reader.fd, String(LINES), 'crash');
    await writer.fares();
    expect((await within(20_000, 'the crash', writer.ended)).code).toBe(1);
  });

  test('gets all of a crash, with the stack', async () => {
    await using dir = await testDir();
    await using reader = await READERS[kind](dir.path);
    await using writer = new Writer(reader.fd, '100', 'crash');
    const lines = linesOf(await within(20_000, 'the log', reader.until(writer, 'The service has crashed')));
    expect(tally(lines)).toEqual({ came: 100, told: 0, isInOrder: true });
    expect(lines.at(-2)).toMatchObject({ msg: 'the last line before the crash' });
    expect(lines.at(-1)).toMatchObject({ level: 60, err: { message: 'a bug of a test' } });
    expect(lines.at(-1)?.err?.stack).toMatch(
      /^Error: a bug of a test\n +at .*\ncaused by: Error: and its cause\n +at /s,
    );
    expect((await writer.ended).code).toBe(1);
  });
});

test('a reader that goes away does not affect the process, and the lines that it did not read are counted', async () => {
  await using writer = new Writer('pipe', '10');
  await writer.fares();
  const closed = once(writer.output('stderr'), 'close');
  writer.child.stderr?.destroy();
  await closed;
  await using unread = new Writer('pipe', String(LINES));
  unread.child.stderr?.destroy();
  expect((await unread.fares()).dropped).toBeGreaterThan(LINES / 2);
  for (const one of [writer, unread]) {
    one.ask();
    expect((await one.fares()).step).toBe('asked');
    expect((await one.end()).code).toBe(0);
  }
});

test('a full disk is not a reason to end', async () => {
  await using full = await open('/dev/full', 'w');
  await using writer = new Writer(full.fd, '100');
  await writer.fares();
  writer.ask();
  expect((await writer.fares()).step).toBe('asked');
  expect((await writer.end()).code).toBe(0);
});

test.each(['', 'crash'])('a file has every line once at the end %s', async (then) => {
  await using dir = await testDir();
  const path = join(dir.path, 'log');
  await using file = await open(path, 'w');
  await using writer = new Writer(file.fd, '1000', then);
  await writer.fares();
  await writer.end();
  const lines = linesOf(await readFile(path, 'utf8'));
  const numbers = lines.flatMap(({ n }) => n ?? []);
  expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, n) => n));
  expect(lines.length).toBe(then === 'crash' ? 1002 : 1000);
});
