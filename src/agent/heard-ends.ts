/**
 * How jobs ended that QEMU does not keep for us to ask: what its events said. A stream must be of that kind, as
 * QEMU 7.2 crashes when it is asked for its nodes while a concluded stream is still to be dismissed.
 */
import { isOurs } from '../core/plans/names.ts';
import type { QmpEvent } from '../qmp/monitor.ts';

/** Of jobs that ended so long ago nobody asks. */
const KEPT = 100;

export class HeardEnds {
  readonly #errors = new Map<string, string | undefined>();

  take({ event, data }: QmpEvent): void {
    const id = data?.['device'];
    if (typeof id !== 'string' || !isOurs(id)) return;
    if (event !== 'BLOCK_JOB_COMPLETED' && event !== 'BLOCK_JOB_CANCELLED') return;
    const error = event === 'BLOCK_JOB_CANCELLED' ? 'Operation canceled' : data?.['error'];
    this.#errors.set(id, typeof error === 'string' ? error : undefined);
    const [oldest] = this.#errors.keys();
    if (oldest !== undefined && this.#errors.size > KEPT) this.#errors.delete(oldest);
  }

  /** The error of a job that was heard to fail; undefined: it did not, or nobody heard. */
  errorOf(id: string): string | undefined {
    return this.#errors.get(id);
  }
}
