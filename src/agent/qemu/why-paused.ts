/**
 * The errors for which QEMU has paused jobs. QEMU forgets them at each `cont` of any client: such a job stays paused,
 * and looks as if a client had paused it.
 */
import { isJobId } from '../../core/job/names.ts';
import type { QemuBlockJob } from '../../core/qemu/replies.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';

export class WhyPaused {
  readonly #known = new Map<string, 'failed' | 'nospace'>();
  #errors = 0;

  /** An event reports that it is for an error; only a look shows for which. */
  take({ event, data }: QmpEvent): void {
    const id = data['device'];
    if (event !== 'BLOCK_JOB_ERROR' || data['action'] !== 'stop' || typeof id !== 'string' || !isJobId(id)) return;
    this.#errors += 1;
    if (!this.#known.has(id)) this.#known.set(id, 'failed');
  }

  /** The jobs in QEMU's list, with the errors that it has forgotten. */
  async of(ask: () => Promise<readonly QemuBlockJob[]>): Promise<readonly QemuBlockJob[]> {
    const before = this.#errors;
    const jobs = await ask();
    // An event since then may be newer than the answer.
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
