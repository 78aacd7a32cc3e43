/** A comparison may take hours: the facts of the start's preparation are checked again during it, and at its end. */

import { BlockJobError, type Failure, fail } from '../../core/errors.ts';
import { timeIsUp } from '../../core/job/ending.ts';
import type { Job } from '../../core/job/job.ts';
import type { HostClock } from '../host/host-clock.ts';
import { timeLeftMs } from '../host/time-left.ts';
import { type Comparing, refuseOtherChain } from '../qemu/compare.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { refuseMigrating } from './migration.ts';

export interface ComparingOptions {
  readonly onVerified?: (bytes: number, ofBytes: number) => void;
  readonly mayPivot: (signal: AbortSignal) => Promise<void>;
  readonly leaving: AbortSignal;
  /** The facts of its job, now. */
  readonly now: () => {
    readonly job: Job;
    readonly clock: HostClock;
    readonly cancelled: Failure | undefined;
    readonly path: string;
  };
}

export function comparingFor(machine: VirtualMachine, options: ComparingOptions): Comparing {
  const { leaving, onVerified, mayPivot, now } = options;
  return {
    mayGoOn: () => {
      const { job, clock, cancelled, path } = now();
      if (cancelled !== undefined) throw new BlockJobError(cancelled);
      if (timeLeftMs(job, clock) <= 0) throw new BlockJobError(timeIsUp(job.accepted));
      if (leaving.aborted) fail('VERIFY_BROKEN_OFF', { path, why: 'the service ends' });
    },
    onProgress: (bytes, ofBytes) => onVerified?.(bytes, ofBytes),
    whenEqual: async () => {
      await mayPivot(leaving);
      await refuseMigrating(machine);
      await refuseOtherChain(now().job.accepted, machine);
    },
  };
}
