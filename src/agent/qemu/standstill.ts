/**
 * The block jobs of one QEMU stand still while it stops its guest. `stop` flushes disk after disk, and keeps a reference
 * to the disk's user meanwhile. A job that ends inside such a flush leaves its user behind: a copy or a commit that
 * pivots there aborts QEMU ("Permission conflict on node"; seen with 5.2, 7.2 and 10.0), and a copy that fails there
 * leaves its filter for ever (7.2). A paused job does not end, and has no I/O in flight, so that `stop` is short.
 */
import type { QmpCommand } from '../../core/qemu/commands.ts';
import type { QemuBlockJob, QemuJob } from '../../core/qemu/replies.ts';
import type { Wake } from '../../lib/wake.ts';
import { NotSent, Refused } from '../../qmp/errors.ts';

/** QEMU, as a standstill needs it. */
export interface WithJobs {
  readonly wake: Wake;
  jobs(): Promise<readonly QemuJob[]>;
  execute(command: QmpCommand): Promise<unknown>;
}

/** A job stands still when its I/O in flight is written. The guest runs meanwhile, and other holds wait. */
const WITHIN_MS = 2500;
/** QEMU reports the changes of the state of all jobs: this is for a report that is lost. */
const LOOK_AGAIN_MS = 500;

const BLOCK_JOBS: ReadonlySet<string> = new Set(['mirror', 'commit', 'stream', 'backup']);
/** Other jobs do not end by themselves, or have ended. */
const MOVES: ReadonlySet<QemuJob['status']> = new Set(['created', 'running', 'ready', 'aborting']);

export class Standstill {
  readonly #qemu: WithJobs;
  readonly #jobs = new Set<string>();

  constructor(qemu: WithJobs) {
    this.#qemu = qemu;
  }

  /** QEMU's list without the pauses that no client wants. */
  unseenIn(jobs: readonly QemuBlockJob[]): readonly QemuBlockJob[] {
    return jobs.map((job) => (this.#jobs.has(job.id) ? { ...job, paused: false } : job));
  }

  /**
   * Resolves when no block job can end. `write` is called first, with the jobs that it pauses: a service after this one
   * has to resume them. Rejects with NotSent if a job does not stand still in time, or as `write` and `execute`. `end`
   * has to be called in any case.
   */
  async begin(write: (jobs: readonly string[]) => Promise<void>): Promise<void> {
    const asked = new Set<string>();
    const until = performance.now() + WITHIN_MS;
    for (;;) {
      const before = this.#qemu.wake.now;
      const jobs = await this.#qemu.jobs();
      const moving = jobs.filter(({ type, status }) => BLOCK_JOBS.has(type) && MOVES.has(status)).map(({ id }) => id);
      if (moving.length === 0) return;
      const next = moving.filter((id) => !asked.has(id));
      if (next.length > 0) {
        for (const id of next) asked.add(id);
        await write([...asked]);
        await Promise.all(next.map(async (id) => await this.#pause(id)));
        continue;
      }
      const leftMs = until - performance.now();
      if (leftMs <= 0) throw new NotSent('stop', `the block job ${moving.join(', ')} does not stand still`);
      await this.#qemu.wake.after(before, { timeoutMs: Math.min(leftMs, LOOK_AGAIN_MS) });
    }
  }

  /**
   * Resumes the jobs that `begin` has paused, and those that a service before this one has left. Rejects while QEMU
   * cannot be asked; then it has to be called again.
   */
  async end(left: readonly string[]): Promise<void> {
    for (const id of left) this.#jobs.add(id);
    for (const id of this.#jobs) {
      await this.#tell('job-resume', id);
      this.#jobs.delete(id);
    }
  }

  async #pause(id: string): Promise<void> {
    this.#jobs.add(id);
    if (!(await this.#tell('job-pause', id))) this.#jobs.delete(id);
  }

  /** QEMU refuses it for a job that has ended, or that another client has paused or resumed. */
  async #tell(execute: 'job-pause' | 'job-resume', id: string): Promise<boolean> {
    try {
      await this.#qemu.execute({ execute, arguments: { id } });
      return true;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return false;
    }
  }
}
