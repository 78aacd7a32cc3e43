/** `blockjob`, run as people run it: in a process of its own; or in the test's process, if a test looks inside. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { type Readable, Writable } from 'node:stream';
import { runCommandLine } from '../../../src/cli/program.ts';
import { Wake } from '../../../src/lib/wake.ts';
import { within } from '../real-qemu/qemu.ts';
import { until } from '../until.ts';
import { scriptOf } from './bundle.ts';

export const BLOCKJOB = scriptOf('blockjob');

/** The output of a command, and its exit status. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Environment = Readonly<Record<string, string>>;

/** A running `blockjob`. */
export class RunningCommand {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #changed = new Wake();
  readonly #ended: Promise<number | null>;
  stdout = '';
  stderr = '';

  constructor(program: string, args: readonly string[], environment: Environment = {}) {
    this.#child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, XDG_CONFIG_HOME: '/nowhere', ...environment },
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#changed.notify();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#changed.notify();
    });
    this.#ended = new Promise((resolve, reject) => this.#child.on('close', resolve).on('error', reject));
  }

  /** Waits for a matching output. */
  async says(pattern: RegExp, from: 'stdout' | 'stderr' = 'stdout'): Promise<void> {
    const ended = this.#ended.then(() => this.#changed.notify());
    ended.catch(() => undefined);
    const said = () => pattern.test(this[from]);
    await until(`blockjob says ${pattern} (${this.stderr}${this.stdout})`, this.#changed, said, 60_000);
  }

  signal(name: 'SIGINT' | 'SIGTERM'): void {
    this.#child.kill(name);
  }

  async end(): Promise<Ran> {
    try {
      const code = await within(60_000, 'blockjob ends', this.#ended);
      return { code, stdout: this.stdout, stderr: this.stderr };
    } finally {
      this.#child.kill('SIGKILL');
    }
  }
}

export function startBlockjob(args: readonly string[], environment: Environment = {}): RunningCommand {
  return new RunningCommand(process.execPath, [BLOCKJOB, ...args], environment);
}

export async function blockjob(args: readonly string[], environment: Environment = {}): Promise<Ran> {
  return await startBlockjob(args, environment).end();
}

export interface InProcess {
  /** As if stderr were a terminal. */
  readonly isTTY?: boolean;
  readonly signal?: AbortSignal;
  readonly environment?: Environment;
}

/** Within this process. */
export async function runInside(args: readonly string[], options: InProcess = {}): Promise<Ran> {
  const { isTTY = false, signal = new AbortController().signal, environment = {} } = options;
  const [stdout, stderr] = [new Sink(), new Sink()];
  const code = await runCommandLine(args, {
    environment: { XDG_CONFIG_HOME: '/nowhere', ...environment },
    stdout,
    stderr: Object.assign(stderr, { isTTY, columns: 160 }),
    signal,
  });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

class Sink extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** The objects of `--output json`. */
export function objectsIn({ stdout }: Ran): Readonly<Record<string, unknown>>[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
