/** The real `blockjobd serve` as a process of its own, and typed clients of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { Caller } from './caller.ts';
import { isRunning, within } from './qemu.ts';

export const REPOSITORY = join(import.meta.dirname, '../..');

export interface ServiceOptions {
  /** Journals, socket and log go here. */
  readonly dir: string;
  readonly qmpDir?: string;
  readonly qmp?: Readonly<Record<string, string>>;
  readonly allow: readonly string[];
  /** Without it on a unix socket in `dir`. */
  readonly listen?: string;
  /** More of the command line. */
  readonly args?: readonly string[];
}

export class Service extends Caller implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #log: string[];

  private constructor(child: ChildProcess, log: string[], address: string, channel?: ChannelCredentials) {
    super(address, channel);
    this.#child = child;
    this.#log = log;
  }

  static async start(options: ServiceOptions): Promise<Service> {
    const { dir, qmpDir, qmp = {}, allow, listen = `unix:${dir}/api.sock` } = options;
    const args = ['serve', '--listen', listen, '--state-dir', `${dir}/state`];
    args.push('--log-level', 'debug', '--host-name', 'host-under-test');
    if (qmpDir !== undefined) args.push('--qmp-dir', qmpDir);
    for (const [name, path] of Object.entries(qmp)) args.push('--qmp', `${name}=${path}`);
    args.push(...(options.args ?? []));
    for (const folder of allow) args.push('--allow-destination', folder);
    return await Service.run(args);
  }

  /** Any mode, with its command line; `reach` says how clients get to it. */
  static async run(
    args: readonly string[],
    reach: { readonly address?: string; readonly channel?: ChannelCredentials } = {},
  ): Promise<Service> {
    // Many run at once, and few are looked at.
    const page = args.includes('--page') ? [] : ['--page', 'off'];
    const child = spawn(process.execPath, ['src/main.ts', ...args, ...page], {
      cwd: REPOSITORY,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log: string[] = [];
    child.stderr.setEncoding('utf8').on('data', (text: string) => log.push(text));
    const exited = once(child, 'exit').then(() => {
      throw new Error(`blockjobd has ended: ${log.join('')}`);
    });
    const [said] = await within(
      20_000,
      'blockjobd serves',
      Promise.race([once(child.stdout.setEncoding('utf8'), 'data'), exited]),
    );
    exited.catch(() => undefined);
    const address = /serves on (\S+)/.exec(String(said))?.[1];
    if (address === undefined) throw new Error(`blockjobd says: ${String(said)}`);
    return new Service(child, log, reach.address ?? address, reach.channel);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What the service has logged so far: JSON lines. */
  get log(): string {
    return this.#log.join('');
  }

  get alive(): boolean {
    return isRunning(this.pid);
  }

  /** SIGTERM, and the exit code. */
  async stop(): Promise<number | null> {
    this.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    try {
      await within(20_000, 'blockjobd ends after SIGTERM', exited);
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    }
    return this.#child.exitCode;
  }

  /** As the kernel or a power cut would: without a word. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await exited;
    }
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
