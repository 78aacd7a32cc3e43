/**
 * Keeps `blockdev-create` apart from what QEMU does not bear beside it. QEMU formats an image in a coroutine that opens and
 * closes nodes. A look at all nodes meanwhile finds one that is half open, and QEMU 5.2 and 7.2 abort. `stop`, and the
 * drain before it, go over all nodes: the same QEMUs abort, and newer ones may fail the format ("Permission conflict").
 */
import type { GuestCommand, QmpCommand } from '../core/qemu/commands.ts';
import type { QemuJob } from '../core/qemu/replies.ts';
import { Lane } from '../lib/lane.ts';
import type { Wake } from '../lib/wake.ts';
import { NotSent } from '../qmp/errors.ts';

/** A format is a few small writes; one that takes longer hangs. */
const FORMAT_LASTS_MS = 5000;

export interface Formatting {
  /** Notified when a job has ended. */
  readonly wake: Wake;
  /** What QEMU lists now: a format of somebody else counts too, and one from before this service was started. */
  jobs(): Promise<readonly QemuJob[]>;
}

export class Formats {
  readonly #qemu: Formatting;
  readonly #limitMs: number;
  readonly #lane = new Lane();
  #seen: { readonly job: string; readonly at: number } | undefined;

  constructor(qemu: Formatting, limitMs = FORMAT_LASTS_MS) {
    this.#qemu = qemu;
    this.#limitMs = limitMs;
  }

  /**
   * Sends a command of any kind, when it can be sent without harm. Rejects with NotSent where a format hangs that it
   * would meet: it may be tried again.
   */
  async around<T>(command: QmpCommand | GuestCommand, send: () => Promise<T>): Promise<T> {
    switch (command.execute) {
      case 'blockdev-create':
        // QEMU lists the job when it has answered.
        return await this.#lane.run(send);
      case 'query-named-block-nodes':
      case 'stop':
      case 'transaction':
        return await this.#lane.run(async () => {
          await this.#over(command.execute);
          return await send();
        });
      default:
        return await send();
    }
  }

  async #over(command: string): Promise<void> {
    for (;;) {
      const before = this.#qemu.wake.now;
      const jobs = await this.#qemu.jobs();
      const format = jobs.find(({ type, status }) => type === 'create' && status !== 'concluded');
      if (format === undefined) return;
      const now = performance.now();
      if (this.#seen?.job !== format.id) this.#seen = { job: format.id, at: now };
      const leftMs = this.#seen.at + this.#limitMs - now;
      if (leftMs <= 0) throw new NotSent(command, `QEMU formats an image for long, job ${format.id}`);
      await this.#qemu.wake.after(before, { timeoutMs: leftMs });
    }
  }
}
