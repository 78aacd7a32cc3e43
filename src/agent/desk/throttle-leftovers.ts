/** Limits on guests that jobs have left in a QEMU which did not answer when the jobs were given up. */
import type { Leftover } from '../../core/block-jobs.ts';
import type { KnownJob } from '../../core/job/known-job.ts';
import { inTime } from '../../lib/timer.ts';
import { type ThrottleLeft, type ThrottlesLeftOptions, throttlesLeft } from '../job/throttles-left.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import { processPresence } from '../qemu/qemu-process.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

export interface ThrottleLeftovers extends ThrottlesLeftOptions {
  readonly host: string;
  readonly machines: Pick<VirtualMachines, 'of'>;
}

interface FoundThrottle {
  readonly leftover: Leftover;
  readonly remove: () => Promise<void>;
}

/** Only QEMUs of jobs with such a limit are asked for it: the question is expensive. */
export async function throttleLeftovers(options: ThrottleLeftovers): Promise<readonly FoundThrottle[]> {
  const jobs = options.jobs.known.newestFirst
    .map(({ known }) => known)
    .filter(({ throttle, endTime }) => throttle !== undefined && endTime !== undefined);
  return (await Promise.all(jobs.map(async (job) => await found(job, options)))).flat();
}

async function found(job: KnownJob, options: ThrottleLeftovers): Promise<FoundThrottle[]> {
  const { accepted, throttle, createTime } = job;
  const machine = options.machines.of(accepted);
  const asked = machine?.identity && inTime(throttlesLeft(machine, options), QEMU_ANSWERS_MS);
  const left = await asked?.catch(() => undefined);
  const isGone = left === undefined && accepted.process && (await processPresence(accepted.process)) === 'ENDED';
  const mine = left?.find((one) => one.job === accepted.job);
  if (isGone === true || (left !== undefined && mine === undefined)) return [];
  const limit = mine?.limitBytesPerSecond ?? throttle?.limits.at(-1) ?? 0;
  const leftover: Leftover = {
    id: `throttle:${accepted.job}`,
    kind: 'THROTTLE',
    host: options.host,
    domain: accepted.domain,
    jobId: accepted.job,
    name: accepted.qdev,
    allocatedBytes: 0,
    text: `a limit of ${limit} bytes per second on the guest’s writes, set by a job that is over`,
    blockedBy: blockedBy(accepted.job, mine),
    createTime,
  };
  return [{ leftover, remove: async () => await mine?.lift() }];
}

function blockedBy(job: string, left: ThrottleLeft | undefined): string {
  if (left === undefined) return 'QEMU does not answer; the limit is taken away as soon as it does';
  return left.isGoing ? `QEMU still runs job ${job}; reclaim that first` : '';
}
