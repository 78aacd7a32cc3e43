/**
 * How jobs ended that QEMU does not keep for us to ask: what its events said. A stream must be of that kind, as
 * QEMU 7.2 crashes when it is asked for its nodes while a concluded stream is still to be dismissed. And of no job
 * does QEMU keep what it failed at: its result is the error's text alone.
 */
import type { FailedTo } from '../../core/job/ending.ts';
import { isJobId } from '../../core/job/names.ts';
import { cutWords } from '../../qmp/messages.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';

/** Of jobs that ended so long ago nobody asks. */
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

  /** The error of a job that was heard to fail; undefined: it did not, or nobody heard. */
  errorOf(id: string): string | undefined {
    return this.#heard.get(id)?.error;
  }

  /** What the job gave up at; undefined: at nothing, or nobody heard. */
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
      // Another action than report is no end: the job is paused.
      return action === 'report' ? { failedTo: operation === 'read' ? 'read' : 'write' } : undefined;
    default:
      return undefined;
  }
}
