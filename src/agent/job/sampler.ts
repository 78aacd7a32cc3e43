/**
 * Asks each QEMU with running jobs, watched or not, so that the verdict on a job is true. A verdict that was not
 * expected is written to the journal, and so are the steps that an end policy takes then.
 */
import type { Logger } from 'pino';
import { type EndVerdict, isVerdictNews, type Point } from '../../core/job/convergence.ts';
import { writeModeOf } from '../../core/job/end-policy.ts';
import type { Job } from '../../core/job/job.ts';
import { isInQemu } from '../../core/job/job-facts.ts';
import { type NoEndSince, noEndSince, policyNews } from '../../core/moves/policy-rows.ts';
import type { QemuBlockDevice } from '../../core/qemu/block-replies.ts';
import { timeLeftMs } from '../host/host-clock.ts';
import type { JobLog } from '../journal/job-log.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import { throttleEntry } from './guest-throttle.ts';
import type { Progresses, Windows } from './progresses.ts';

export interface SamplerOptions {
  readonly machines: Pick<VirtualMachines, 'of'>;
  readonly progresses: Pick<Progresses, 'take' | 'verdictOn'>;
  readonly active: () => readonly JobLog[];
  readonly logger: Logger;
}

/** QEMU's default, unless the clusters of the destination are smaller. */
const GRANULARITY_BYTES = 65_536;

export class Sampler {
  readonly #options: SamplerOptions;
  /** A QEMU that does not answer is not asked again. */
  readonly #asked = new Set<VirtualMachine>();
  readonly #toldMs = new WeakMap<JobLog, number>();
  readonly #noEnds = new WeakMap<JobLog, NoEndSince>();
  /** When a guest was last not slowed down though it was due. */
  readonly #triedMs = new WeakMap<JobLog, number>();

  constructor(options: SamplerOptions) {
    this.#options = options;
  }

  sample(): void {
    const jobs = new Map<VirtualMachine, JobLog[]>();
    for (const log of this.#options.active()) {
      const machine = isInQemu(log.job) ? this.#options.machines.of(log.job.accepted) : undefined;
      if (machine?.identity === undefined || this.#asked.has(machine)) continue;
      jobs.set(machine, [...(jobs.get(machine) ?? []), log]);
    }
    for (const [machine, logs] of jobs) {
      this.#asked.add(machine);
      this.#ask(machine, logs)
        .catch((error: unknown) => {
          if (!isUnreachable(error)) this.#options.logger.warn({ err: error }, 'The verdict on a copy is not known');
        })
        .finally(() => this.#asked.delete(machine));
    }
  }

  async #ask(machine: VirtualMachine, logs: readonly JobLog[]): Promise<void> {
    const { progresses } = this.#options;
    const [blockJobs, devices] = await Promise.all([machine.blockJobs(), machine.blockDevices()]);
    const windows: Windows = new Map(logs.map(({ job }) => [job.accepted.job, windowOf(job, devices)]));
    // No event of QEMU reports a changed limit.
    if (progresses.take(blockJobs, windows)) machine.wake.notify();
    await Promise.all(logs.map(async (log) => await this.#tell(log, machine)));
  }

  async #tell(log: JobLog, machine: VirtualMachine): Promise<void> {
    const { job } = log;
    const verdict = this.#options.progresses.verdictOn(job);
    if (verdict === undefined) this.#noEnds.delete(log);
    else await this.#takeStep(log, machine, verdict);
    const sinceMs = performance.now() - (this.#toldMs.get(log) ?? -Infinity);
    if (verdict === undefined || !isVerdictNews(verdict, job.verdict, { verdicts: job.verdicts, sinceMs })) return;
    this.#toldMs.set(log, performance.now());
    await log.offer({ entry: 'verdict', ...verdict }, { still: isInQemu, otherwise: () => undefined });
  }

  /** The next step of the job's end policy, if it is due: rows of core/moves/next-move carry it out. */
  async #takeStep(log: JobLog, machine: VirtualMachine, verdict: EndVerdict): Promise<void> {
    const { job, clock } = log;
    const nowMs = performance.now();
    const since = noEndSince(this.#noEnds.get(log), job, verdict, nowMs);
    if (since === undefined) this.#noEnds.delete(log);
    else this.#noEnds.set(log, since);
    const forMs = nowMs - (since?.sinceMs ?? nowMs);
    const untriedMs = nowMs - (this.#triedMs.get(log) ?? -Infinity);
    const due = policyNews(job, { verdict, forMs, untriedMs, leftMs: timeLeftMs(job, clock) });
    const step = due?.entry === 'throttle-requested' ? await throttleEntry(due, job, machine) : due;
    if (step === undefined) return;
    if (step.entry === 'throttle-not-taken') this.#triedMs.set(log, nowMs);
    await log.offer(step, { still: ({ revision }) => revision === job.revision, otherwise: () => undefined });
  }
}

function windowOf(job: Job, devices: readonly QemuBlockDevice[]) {
  const { accepted, pauseReason } = job;
  const { kind, qdev, options } = accepted;
  // In these the guest's writes do not wait to be copied.
  const isApart = kind === 'PULL' || kind === 'COMMIT' || writeModeOf(job) === 'BLOCKING';
  const guest: Point['guest'] = isApart ? undefined : devices.find((one) => one.qdev === qdev)?.written;
  const granularityBytes = options.granularityBytes ?? GRANULARITY_BYTES;
  return { guest, granularityBytes, isPaused: pauseReason !== undefined };
}
