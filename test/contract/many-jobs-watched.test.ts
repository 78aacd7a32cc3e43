/**
 * A thousand jobs on two hosts, and a hundred watchers of all of them through one gateway, while agents and gateway are
 * killed and started again. The jobs are journals alone, so that all of the time goes into watching. `JOBS=200
 * WATCHERS=20` has fewer.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import type { Seen } from '../support/jobs-watchers.ts';
import { peakBytes } from '../support/memory.ts';
import { testDir, within } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const JOBS = Number(process.env['JOBS'] ?? 1000);
const WATCHERS = Number(process.env['WATCHERS'] ?? 100);
const PLATFORMS = 2;
/** The first entries of each host, written before the restarts. */
const EARLY = 50;
const LATE = JOBS;
/** Node ends a process that needs more. Without a limit it leaves garbage, more of it on a busy machine. */
const HEAP = { NODE_OPTIONS: '--max-old-space-size=160' };
const STAYS_BELOW = 384 * 1024 * 1024;
const PATIENCE_MS = 250_000;

const isAt = (count: number) => (line: string) => Number(line) >= count;

/** A process that prints lines. */
class Telling implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting = new Set<() => void>();
  #hasEnded = false;

  constructor(program: string, ...args: readonly string[]) {
    const script = join(import.meta.dirname, '../support', program);
    const child = spawn(process.execPath, [script, ...args], {
      env: { ...process.env, ...HEAP },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#lines.push(line);
      for (const wake of this.#waiting) wake();
    });
    child.once('exit', () => {
      this.#hasEnded = true;
      for (const wake of this.#waiting) wake();
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  async says(fits: (line: string) => boolean): Promise<string> {
    for (;;) {
      const found = this.#lines.find(fits);
      if (found !== undefined) return found;
      if (this.#hasEnded) throw new Error(`it has ended, and said: ${this.#lines.join(' ')}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#hasEnded) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
  }
}

test(
  'many watchers of all jobs through a gateway get each revision once, over restarts of it and of agents',
  async () => {
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir());
    const socketOf = (host: string) => join(dir, `${host}.sock`);
    const agent = (host: string, first: number) => {
      const args = [join(dir, host), host, socketOf(host), String(first), String(JOBS / 2)];
      return opened.use(new Telling('jobs-agent.ts', ...args));
    };
    const hosts = join(dir, 'hosts.json');
    const addresses = ['h1', 'h2'].map((host) => [host, { address: `unix:${socketOf(host)}` }]);
    await writeFile(hosts, JSON.stringify({ hosts: Object.fromEntries(addresses) }));
    const listen = `unix:${join(dir, 'gateway.sock')}`;
    const gateway = async () =>
      opened.use(await Service.run(['gateway', '--listen', listen, '--hosts', hosts], { env: HEAP }));
    const peaks: number[] = [];
    const noted = <T extends { readonly pid: number }>(one: T): T => {
      peaks.push(peakBytes(one));
      return one;
    };

    let [h1, h2] = [agent('h1', 0), agent('h2', 1_000_000)];
    await Promise.all([h1, h2].map(async (one) => await one.says((line) => line === 'serving')));
    let through = await gateway();
    const platforms = Array.from({ length: PLATFORMS }, () =>
      opened.use(new Telling('jobs-watchers.ts', through.address, String(WATCHERS / PLATFORMS), String(JOBS))),
    );
    const trial = async () => {
      await Promise.all(platforms.map(async (one) => await one.says((line) => line === 'begun')));
      for (const one of [h1, h2]) one.say('go');
      await h1.says(isAt(EARLY));
      await noted(h1).end('SIGKILL');
      h1 = agent('h1', 0);
      await h1.says((line) => line === 'serving');
      h1.say('go');
      await h2.says(isAt(EARLY));
      await noted(through).kill();
      through = await gateway();
      await h2.says(isAt(LATE));
      await noted(h2).end('SIGTERM');
      h2 = agent('h2', 1_000_000);
      await h2.says((line) => line === 'serving');
      h2.say('go');
      await Promise.all([h1, h2].map(async (one) => await one.says((line) => line === 'done')));
      return await Promise.all(platforms.map(async (one) => await one.says((line) => line.startsWith('{'))));
    };
    const seen = (await within(PATIENCE_MS, 'their view', trial())).map((line) => JSON.parse(line) as Seen);
    for (const one of [h1, h2, through]) noted(one);
    expect(seen).toEqual(Array.from({ length: PLATFORMS }, () => ({ [`${JOBS} whole`]: WATCHERS / PLATFORMS })));
    expect(peaks.map((bytes) => Math.round(present(bytes) / 1e6)).filter((mb) => mb * 1e6 >= STAYS_BELOW)).toEqual([]);
  },
  PATIENCE_MS + 10_000,
);
