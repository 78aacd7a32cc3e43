/** The actions of other clients of QEMU, and of its host, while jobs run. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lane } from '../../src/lib/lane.ts';
import { type Admin, isRunning } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import type { FormatTurns } from './format-turns.ts';
import type { Killer } from './killer.ts';
import type { Meddling, Plan } from './plan.ts';
import { BOUND_MS, type Waits } from './waits.ts';
import { WrongOutcome } from './wrong.ts';

/** A job whose storage is slow does not stand still for as long. */
const STILL_MS = 2000;
/** The same moment, with a margin for a busy machine. */
const INSTANT_MS = 2000;

export class Meddler {
  /** The number of times that it has resumed a guest that only it knew should run. */
  lookedAgain = 0;
  readonly #admin: Admin;
  readonly #pid: number;
  readonly #waits: Waits;
  readonly #killer: Killer;
  /** The actions on the whole VM run one at a time. */
  readonly #turns = new Lane();
  readonly #formats: FormatTurns;
  #troubles = 0;
  #continuedMs = 0;

  constructor(parts: { admin: Admin; pid: number; waits: Waits; killer: Killer; turns: FormatTurns }) {
    this.#admin = parts.admin;
    this.#pid = parts.pid;
    this.#waits = parts.waits;
    this.#killer = parts.killer;
    this.#formats = parts.turns;
  }

  async meddle(id: string, meddling: Plan['meddling']): Promise<void> {
    if (meddling === undefined) return;
    const { what, afterMs, forMs } = meddling;
    await sleep(afterMs);
    if (what === 'freeze') await this.#alone(async () => await this.#freeze(forMs));
    else if (what === 'stop') await this.#alone(async () => await this.#pause(forMs));
    else await this.#toJob(id, what, forMs);
  }

  async #alone(work: () => Promise<void>): Promise<void> {
    await this.#turns.run(async () => await this.#waits.others.during(work));
  }

  /** Storage hangs meanwhile: QEMU 7.2 fails if a copy fails during `stop` (docs/versions.md). */
  async withoutPauses<T>(work: () => Promise<T>): Promise<T> {
    this.#troubles += 1;
    try {
      return await work();
    } finally {
      this.#troubles -= 1;
    }
  }

  async #freeze(forMs: number): Promise<void> {
    await stop(this.#pid);
    await sleep(forMs);
    process.kill(this.#pid, 'SIGCONT');
  }

  async #pause(forMs: number): Promise<void> {
    const stopped = await this.#formats.apart(async () => {
      if (this.#troubles > 0) return false;
      return await this.#stop();
    });
    if (!stopped) return;
    await sleep(forMs);
    // Also if the service has resumed it meanwhile, which the service cannot know to be wrong.
    await this.#admin.execute('cont');
    this.#continuedMs = Date.now();
  }

  /** As docs/pauses.md asks for: the block jobs stand still meanwhile, because QEMU aborts if one pivots in a `stop`. */
  async #stop(): Promise<boolean> {
    const asked = new Set<string>();
    try {
      const by = Date.now() + STILL_MS;
      for (;;) {
        const jobs = await this.#admin.execute<readonly { id: string; status: string }[]>('query-jobs');
        const moving = jobs.filter(({ status }) => ['created', 'running', 'ready', 'aborting'].includes(status));
        if (moving.length === 0) break;
        if (Date.now() > by) return false;
        for (const { id } of moving.filter((job) => !asked.has(job.id))) {
          asked.add(id);
          await quietly(this.#admin.execute('job-pause', { id }));
        }
        await sleep(5);
      }
      await this.#admin.execute('stop');
      return true;
    } finally {
      for (const id of asked) await quietly(this.#admin.execute('job-resume', { id }));
    }
  }

  async #toJob(id: string, what: Exclude<Meddling, 'freeze' | 'stop'>, forMs: number): Promise<void> {
    const byDevice = what.startsWith('block-job');
    const speed = what === 'block-job-set-speed' ? { speed: 0 } : {};
    await quietly(this.#admin.execute(what, { ...(byDevice ? { device: id } : { id }), ...speed }));
    if (what !== 'job-pause') return;
    await sleep(forMs);
    await quietly(this.#admin.execute('job-resume', { id }));
  }

  /** The guest runs, or soon does: nobody else keeps it paused. */
  async expectRunning(what: string): Promise<void> {
    await this.#turns.run(async () => {
      const by = Date.now() + 2 * BOUND_MS;
      for (;;) {
        if (!isRunning(this.#pid)) throw new WrongOutcome(`${what}: QEMU has died`);
        this.#waits.checkPauses();
        const { status } = await this.#admin.execute<{ status: string }>('query-status');
        if (status === 'running') return;
        if (Date.now() > by) {
          // A person who resumes guests by hand at such a moment checks whether the guest runs: docs/pauses.md.
          if (status !== 'paused' || Math.abs(this.#killer.lastMs - this.#continuedMs) > INSTANT_MS) {
            throw new WrongOutcome(`${what}: the guest is ${status}`);
          }
          this.lookedAgain += 1;
          await this.#waits.others.during(async () => await this.#admin.execute('cont'));
        } else await sleep(20);
      }
    });
  }
}

/** Errors of a meddler do not matter. */
async function quietly(work: Promise<unknown>): Promise<void> {
  await work.catch(() => undefined);
}
