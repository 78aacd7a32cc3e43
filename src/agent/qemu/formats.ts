/**
 * Keeps `blockdev-create` apart from commands that QEMU cannot run beside it. QEMU formats an image in a coroutine that
 * opens and closes nodes. A look at all nodes meanwhile finds one that is half open, and QEMU 5.2 and 7.2 abort.
 * `stop`, the drain before it, and `cont` go over all nodes: the same QEMUs abort, and newer ones may fail the format
 * at `stop` ("Permission conflict").
 */
import type { GuestCommand, QmpCommand } from '../../core/qemu/commands.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import { Lane } from '../../lib/lane.ts';
import type { Wake } from '../../lib/wake.ts';
import { NotSent } from '../../qmp/errors.ts';

/** A format consists of a few small writes; a longer one hangs. */
const FORMAT_LASTS_MS = 5000;
/** A hanging format opens and closes nothing: a held guest need not wait for its end. */
const GUEST_WAITS_MS = 1000;

interface Formatting {
  /** Notified when a job has ended. */
  readonly wake: Wake;
  /** The jobs in QEMU's list now, of any client. */
  jobs(): Promise<readonly QemuJob[]>;
}

export class Formats {
  readonly #qemu: Formatting;
  readonly #limitMs: number;
  readonly #lane = new Lane();
  readonly #looks = new Set<Promise<unknown>>();
  #seen: { readonly job: string; readonly at: number } | undefined;

  constructor(qemu: Formatting, limitMs = FORMAT_LASTS_MS) {
    this.#qemu = qemu;
    this.#limitMs = limitMs;
  }

  /**
   * Sends a command of any kind when that is safe. Rejects with NotSent if a format that it would meet hangs: it may be
   * repeated. `cont` is always sent in the end: no guest stays paused for a format.
   */
  async around<T>(command: QmpCommand | GuestCommand, send: () => Promise<T>): Promise<T> {
    switch (command.execute) {
      case 'blockdev-create':
        return await this.#lane.run(async () => {
          await Promise.allSettled(this.#looks);
          // QEMU lists the job when it has answered.
          return await send();
        });
      case 'query-named-block-nodes':
      case 'stop':
      case 'transaction':
        return await this.#apart(send, this.#limitMs, (job) => {
          throw new NotSent(command.execute, `QEMU has been formatting an image for long, job ${job}`);
        });
      case 'cont':
        return await this.#apart(send, Math.min(this.#limitMs, GUEST_WAITS_MS), send);
      default:
        return await send();
    }
  }

  /** While a format is waited for others may look, and `cont` does. */
  async #apart<T>(send: () => Promise<T>, limitMs: number, whenItHangs: (job: string) => Promise<T>): Promise<T> {
    for (;;) {
      const turn = await this.#look(async () => {
        const before = this.#qemu.wake.now;
        const seen = await this.#running();
        if (seen === undefined) return { answer: await send() };
        const leftMs = seen.at + limitMs - performance.now();
        return leftMs > 0 ? { before, leftMs } : { answer: await whenItHangs(seen.job) };
      });
      if ('answer' in turn) return turn.answer;
      await this.#qemu.wake.after(turn.before, { timeoutMs: turn.leftMs });
    }
  }

  /** No format begins until its end. Others look at the same time: a silent QEMU delays all of them as long as one. */
  async #look<T>(work: () => Promise<T>): Promise<T> {
    const { look } = await this.#lane.run(async () => {
      const begun = work();
      this.#looks.add(begun);
      return await Promise.resolve({ look: begun });
    });
    try {
      return await look;
    } finally {
      this.#looks.delete(look);
    }
  }

  /** The running format, of any client, and when it was seen first. */
  async #running(): Promise<{ readonly job: string; readonly at: number } | undefined> {
    const jobs = await this.#qemu.jobs();
    const format = jobs.find(({ type, status }) => type === 'create' && status !== 'concluded');
    if (format === undefined) return undefined;
    if (this.#seen?.job !== format.id) this.#seen = { job: format.id, at: performance.now() };
    return this.#seen;
  }
}
