/** Limits on guests that jobs have left: after a crash, or because QEMU did not answer when they were given up. */
import type { Logger } from 'pino';
import { isToBeTakenAway } from '../../core/job/guest-throttle.ts';
import { Timer } from '../../lib/timer.ts';
import type { JobsInMemory } from '../journal/jobs-in-memory.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { liftIn, limitsIn } from './guest-throttle.ts';

type Machine = Pick<VirtualMachine, 'execute' | 'identity' | 'jobs' | 'name'>;

export interface ThrottlesLeftOptions {
  readonly jobs: { readonly known: JobsInMemory };
  /** Limits of jobs of other state folders are left to their services. */
  readonly whose: { readonly wasOurs: (job: string) => Promise<boolean> };
}

/** A limit in a QEMU that a job has left. */
export interface ThrottleLeft {
  readonly job: string;
  readonly qdev: string;
  readonly limitBytesPerSecond: number;
  /** Whether QEMU still runs the job. */
  readonly isGoing: boolean;
  readonly lift: () => Promise<void>;
}

export async function throttlesLeft(
  machine: Pick<Machine, 'execute' | 'jobs'>,
  { jobs, whose }: ThrottlesLeftOptions,
): Promise<readonly ThrottleLeft[]> {
  const [all, inQemu] = await Promise.all([limitsIn(machine), machine.jobs()]);
  const left: ThrottleLeft[] = [];
  for (const found of all) {
    const { group: job = '', qdev, limits } = found;
    if (!isToBeTakenAway(found, jobs.known.get(job)?.known) || !(await whose.wasOurs(job))) continue;
    const isGoing = inQemu.some(({ id, status }) => id === job && status !== 'concluded');
    const lift = async () => await liftIn(machine, found, isGoing);
    left.push({ job, qdev, limitBytesPerSecond: limits['bps_wr'] ?? 0, isGoing, lift });
  }
  return left;
}

/** A QEMU that hangs causes no event when it answers again. */
const TRY_AGAIN_MS = 5000;

export class ThrottlesLeft implements Disposable {
  readonly #options: ThrottlesLeftOptions & { readonly logger: Logger };
  readonly #againMs: number;
  readonly #retries = new Map<Machine, Timer>();
  #isClosed = false;

  constructor(options: ThrottlesLeftOptions & { readonly logger: Logger }, againMs = TRY_AGAIN_MS) {
    this.#options = options;
    this.#againMs = againMs;
  }

  /** Lifts all limits in a QEMU that jobs have left. Never rejects. To be called again when QEMU is connected again. */
  async lift(machine: Machine): Promise<void> {
    this.#retries.get(machine)?.[Symbol.dispose]();
    this.#retries.delete(machine);
    if (this.#isClosed || machine.identity === undefined) return;
    if (await this.#liftIn(machine)) return;
    if (!this.#isClosed) this.#retries.set(machine, new Timer(() => void this.lift(machine), this.#againMs));
  }

  /** Whether it was done. */
  async #liftIn(machine: Machine): Promise<boolean> {
    const { logger } = this.#options;
    const { name: domain } = machine;
    try {
      for (const { job, qdev, limitBytesPerSecond, lift } of await throttlesLeft(machine, this.#options)) {
        await lift();
        logger.warn({ domain, job, qdev, limitBytesPerSecond }, 'A guest was slowed down for a job that is over');
      }
      return true;
    } catch (error) {
      if (isUnreachable(error)) logger.info({ err: error, domain }, 'QEMU does not answer for limits of its guest');
      else logger.error({ err: error, domain }, 'The limit on a guest cannot be lifted');
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const retry of this.#retries.values()) retry[Symbol.dispose]();
  }
}
