/**
 * The ends of jobs that QEMU does not keep, from its events. A stream must be such a job, because QEMU 7.2 crashes when
 * it is asked for its nodes while a concluded stream is not dismissed. QEMU also does not keep the operation at which a
 * job failed: its result is only the text of the error.
 */
import type { FailedTo } from '../../core/job/ending.ts';
import { isJobId } from '../../core/job/names.ts';
import { cutWords } from '../../qmp/messages.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';

/** Jobs that ended long ago are not asked for. */
const KEPT = 100;

interface Heard {
  readonly error?: string;
  readonly failedTo?: FailedTo;
}

export class HeardEnds {
  readonly #heard = new Map<string, Heard>();

  take({ event, data }: QmpEvent): void {
    const id = data?.['device'];
    if (typeof id !== 'string' || !isJobId(id)) return;
    const heard = heardIn(event, data ?? {});
    if (heard === undefined) return;
    this.#heard.set(id, { ...this.#heard.get(id), ...heard });
    const [oldest] = this.#heard.keys();
    if (oldest !== undefined && this.#heard.size > KEPT) this.#heard.delete(oldest);
  }

  /** The error of a job that was heard to fail; undefined if it did not, or if no event was heard. */
  errorOf(id: string): string | undefined {
    return this.#heard.get(id)?.error;
  }

  /** The operation at which the job failed; undefined if it did not, or if no event was heard. */
  failedTo(id: string): FailedTo | undefined {
    return this.#heard.get(id)?.failedTo;
  }
}

function heardIn(event: string, data: Readonly<Record<string, unknown>>): Heard | undefined {
  const { action, operation, error } = data;
  switch (event) {
    case 'BLOCK_JOB_CANCELLED':
      return { error: 'Operation canceled' };
    case 'BLOCK_JOB_COMPLETED':
      return typeof error === 'string' ? { error: cutWords(error) } : undefined;
    case 'BLOCK_JOB_ERROR':
      // Any other action than report does not end the job, but pauses it.
      return action === 'report' ? { failedTo: operation === 'read' ? 'read' : 'write' } : undefined;
    default:
      return undefined;
  }
}
