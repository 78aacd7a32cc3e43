/** A client as a process of its own, and the lines that it has printed so far. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { present } from '../support/checks.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

/** A Java that has to load its classes on a busy machine takes half a minute for its first call. */
const PATIENCE_MS = 90_000;

export interface Example {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Where it runs; nothing: where the tests do. */
  readonly cwd?: string;
}

/** An example under way, and the lines that it has printed. */
export class Running implements Disposable {
  readonly lines: string[] = [];
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #printed = Promise.withResolvers<void>();

  constructor({ program, args, env, cwd }: Example, more: readonly string[]) {
    const path = `${join(REPOSITORY, 'node_modules/.bin')}:${process.env['PATH']}`;
    this.#child = spawn(program, [...args, ...more], {
      env: { ...process.env, PATH: path, ...env },
      cwd,
      stdio: 'pipe',
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface({ input: present(stream ?? undefined) }).on('line', (line) => {
        this.lines.push(line);
        const printed = this.#printed;
        this.#printed = Promise.withResolvers();
        printed.resolve();
      });
    }
    this.ended = new Promise((resolve, reject) => this.#child.on('close', resolve).on('error', reject));
  }

  /** Resolves with the first line that has this, now or later. */
  async says(what: RegExp): Promise<string> {
    return await this.until(String(what), () => this.lines.find((line) => what.test(line)));
  }

  /** Looks at the lines, again with each new one, until there is something. */
  async until<T>(what: string, look: () => T | undefined): Promise<T> {
    const found = async () => {
      for (;;) {
        const printed = this.#printed.promise;
        const seen = look();
        if (seen !== undefined) return seen;
        const hasEnded = await Promise.race([printed, this.ended.then(() => true)]);
        if (hasEnded === true && look() === undefined) throw new Error(`it has ended without ${what}`);
      }
    };
    return await within(PATIENCE_MS, what, found()).catch((error: unknown) => {
      throw new Error(`${String(error)}; it said: ${this.lines.join('\n')}`);
    });
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
