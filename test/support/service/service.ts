/** The real `blockjobd serve` as a process of its own, and typed clients of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { isRunning, within } from '../real-qemu/qemu.ts';
import { scriptOf } from './bundle.ts';
import { Caller } from './caller.ts';

export const REPOSITORY = join(import.meta.dirname, '../../..');

export interface ServiceOptions {
  /** Journals, socket and log go here. */
  readonly dir: string;
  readonly qmpDir?: string;
  readonly qmp?: Readonly<Record<string, string>>;
  readonly allow: readonly string[];
  /** By default on a unix socket in `dir`. */
  readonly listen?: string;
  /** More options of the command line. */
  readonly args?: readonly string[];
  /** Node and the script to start, if not the source of this repository. */
  readonly program?: readonly [node: string, main: string];
  /** A command that starts it, as in a namespace of its own or as another user; nothing by default. */
  readonly under?: readonly string[];
}

interface Started {
  readonly address: string;
  readonly channel: ChannelCredentials | undefined;
}

export class Service extends Caller implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #log: string[];
  readonly #isGroup: boolean;

  private constructor(
    child: ChildProcess,
    { log, isGroup, address, channel }: Started & { readonly log: string[]; readonly isGroup: boolean },
  ) {
    super(address, channel);
    this.#child = child;
    this.#log = log;
    this.#isGroup = isGroup;
  }

  static async start(options: ServiceOptions): Promise<Service> {
    const { dir, qmpDir, qmp = {}, allow, listen = `unix:${dir}/api.sock` } = options;
    const args = ['serve', '--listen', listen, '--state-dir', `${dir}/state`];
    args.push('--log-level', 'debug', '--host-name', 'host-under-test');
    if (qmpDir !== undefined) args.push('--qmp-dir', qmpDir);
    for (const [name, path] of Object.entries(qmp)) args.push('--qmp', `${name}=${path}`);
    args.push(...(options.args ?? []));
    for (const folder of allow) args.push('--allow-destination', folder);
    const { program, under } = options;
    return await Service.run(args, { ...(program && { program }), ...(under && { under }) });
  }

  /** Any mode, with its command line; `reach` gives the address for clients, and the started program. */
  static async run(
    args: readonly string[],
    reach: {
      readonly address?: string;
      readonly channel?: ChannelCredentials;
      readonly program?: readonly [node: string, main: string];
      readonly under?: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
      /** How long it may take until it serves. Default: 60,000. */
      readonly servesMs?: number;
    } = {},
  ): Promise<Service> {
    // Many run at once, few are looked at, and no two share a port.
    const off = ['--page', '--metrics'].flatMap((option) => (args.includes(option) ? [] : [option, 'off']));
    const [node, main] = reach.program ?? [process.execPath, scriptOf('main')];
    const [command = node, ...rest] = [...(reach.under ?? []), node, main, ...args, ...off];
    const child = spawn(command, rest, {
      cwd: REPOSITORY,
      env: { ...process.env, ...reach.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // The program that starts another process has to be ended with it.
      detached: reach.under !== undefined,
    });
    const log: string[] = [];
    child.stderr.setEncoding('utf8').on('data', (text: string) => log.push(text));
    const exited = once(child, 'exit').then(([status]) => {
      throw new Error(`blockjobd has ended with status ${status}: ${log.join('')}`);
    });
    const [said] = await within(
      reach.servesMs ?? 60_000,
      'blockjobd serves',
      Promise.race([once(child.stdout.setEncoding('utf8'), 'data'), exited]),
    ).catch((error: unknown) => {
      exited.catch(() => undefined);
      // It would go on after the tests; nobody else knows of it.
      const { pid, exitCode, signalCode } = child;
      const isThere = pid !== undefined && exitCode === null && signalCode === null;
      if (isThere) process.kill(reach.under === undefined ? pid : -pid, 'SIGKILL');
      throw error;
    });
    exited.catch(() => undefined);
    const address = /serves on (\S+)/.exec(String(said))?.[1];
    if (address === undefined) throw new Error(`blockjobd says: ${String(said)}`);
    const isGroup = reach.under !== undefined;
    return new Service(child, { log, isGroup, address: reach.address ?? address, channel: reach.channel });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The log of the service so far: JSON lines. */
  get log(): string {
    return this.#log.join('');
  }

  /** The length of that log. */
  get logLength(): number {
    return this.#log.reduce((sum, { length }) => sum + length, 0);
  }

  get alive(): boolean {
    return isRunning(this.pid);
  }

  /** Sends SIGTERM, and returns the exit code. */
  async stop(): Promise<number | null> {
    this.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const exited = once(this.#child, 'exit');
    this.#signal('SIGTERM');
    try {
      await within(60_000, 'blockjobd ends after SIGTERM', exited);
    } catch (error) {
      this.#signal('SIGKILL');
      throw error;
    }
    return this.#child.exitCode;
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#isGroup) process.kill(-this.pid, signal);
    else this.#child.kill(signal);
  }

  /** As the kernel or a power cut would: without a warning. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#signal('SIGKILL');
      await exited;
    }
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
