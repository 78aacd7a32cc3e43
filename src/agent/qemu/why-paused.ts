/**
 * For which errors QEMU has paused jobs. It forgets that at each `cont`, whoever sends it and why: such a job stays paused, and
 * looks as if somebody had wanted that.
 */
import { isJobId } from '../../core/job/names.ts';
import type { QemuBlockJob } from '../../core/qemu/replies.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';

export class WhyPaused {
  readonly #known = new Map<string, 'failed' | 'nospace'>();
  #errors = 0;

  /** That it is for an error an event tells, and for which only a look. */
  take({ event, data }: QmpEvent): void {
    const id = data['device'];
    if (event !== 'BLOCK_JOB_ERROR' || data['action'] !== 'stop' || typeof id !== 'string' || !isJobId(id)) return;
    this.#errors += 1;
    if (!this.#known.has(id)) this.#known.set(id, 'failed');
  }

  /** The jobs that QEMU lists, with what it has forgotten of them. */
  async of(ask: () => Promise<readonly QemuBlockJob[]>): Promise<readonly QemuBlockJob[]> {
    const before = this.#errors;
    const jobs = await ask();
    // What was heard since may be newer than the answer.
    const isNewest = this.#errors === before;
    for (const id of this.#known.keys()) {
      const isPaused = jobs.find((job) => job.id === id)?.paused === true;
      if (!isPaused && isNewest) this.#known.delete(id);
    }
    return jobs.map((job) => {
      if (!job.paused) return job;
      if (job.ioStatus !== 'ok') this.#known.set(job.id, job.ioStatus);
      return { ...job, ioStatus: this.#known.get(job.id) ?? 'ok' };
    });
  }
}
