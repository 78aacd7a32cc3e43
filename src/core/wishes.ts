/** What is wanted otherwise of a job that goes on: another limit, a pause, that it goes on again. */
import { type Failure, failure } from './errors.ts';
import type { Job } from './job.ts';
import type { EntryBody, PauseReason } from './journal-entry.ts';
import type { Asked, Move, SeenJob } from './moves.ts';
import type { QemuJobStatus } from './qemu/replies.ts';

const WAIT: Move = { move: 'wait' };

/** `before`: as far as it is written down. QEMU forgets at each `cont` of the guest for which error a job is paused. */
export function pauseOf({ paused, ioStatus }: SeenJob, before: PauseReason | undefined): PauseReason | undefined {
  if (!paused) return undefined;
  if (ioStatus === 'ok') return before ?? 'USER';
  return ioStatus === 'nospace' ? 'NO_SPACE' : 'IO_ERROR';
}

/** What others have made otherwise, and what has become of a wish. */
export function observed(job: Job, pause: PauseReason | undefined, speed: number, asked: Asked): EntryBody | undefined {
  const { wantsBandwidth, wantsPaused } = job;
  // The answer to a wish may have been lost.
  const isOther = wantsBandwidth === undefined ? speed !== job.bandwidthBytesPerSecond : asked.speed;
  if (isOther && speed === (wantsBandwidth ?? speed)) return { entry: 'speed', bandwidthBytesPerSecond: speed };
  if (wantsPaused === undefined && pause === job.pauseReason) return undefined;
  if (wantsPaused === undefined && pause === 'USER' && !asked.pauseLasts) return undefined;
  if ((wantsPaused ?? pause !== undefined) !== (pause !== undefined)) return undefined;
  return pause === undefined ? { entry: 'resumed' } : { entry: 'paused', reason: pause };
}

/** What callers want otherwise in a job that goes on. */
export function wished(job: Job, pause: PauseReason | undefined, status: QemuJobStatus, asked: Asked): Move {
  const refused = refusedChange(job, status, asked);
  if (refused !== undefined) return { move: 'record', entry: refused };
  const { job: id } = job.accepted;
  const { wantsBandwidth, wantsPaused } = job;
  if (wantsBandwidth !== undefined) {
    const command = { execute: 'block-job-set-speed', arguments: { device: id, speed: wantsBandwidth } } as const;
    const proves = { entry: 'speed', bandwidthBytesPerSecond: wantsBandwidth } as const;
    return asked.speed ? WAIT : { move: 'command', asks: 'speed', command, proves };
  }
  if (wantsPaused === true && pause === undefined) {
    const command = { execute: 'job-pause', arguments: { id } } as const;
    return asked.pause
      ? WAIT
      : { move: 'command', asks: 'pause', command, proves: { entry: 'paused', reason: 'USER' } };
  }
  return wantsPaused === false && pause !== undefined ? resume(job, asked) : WAIT;
}

/** QEMU's JobVerbTable (job.c): to be paused, resumed or given another limit, a job must not be on its way out. */
export function takesChanges(status: string): boolean {
  return ['created', 'running', 'paused', 'ready', 'standby'].includes(status);
}

/** What QEMU does not take is asked for no longer, and whoever wanted it is told. */
function refusedChange(
  { accepted: { job }, state, wantsBandwidth, wantsPaused }: Job,
  status: QemuJobStatus,
  asked: Asked,
): EntryBody | undefined {
  const late = takesChanges(status) ? undefined : failure('JOB_ENDING', { job, state });
  const speed = late ?? inWords('setting the limit', asked.refused.speed);
  if (wantsBandwidth !== undefined && speed !== undefined) {
    return { entry: 'change-refused', change: 'SPEED', failure: speed };
  }
  const pause =
    late ?? (wantsPaused ? inWords('pausing', asked.refused.pause) : inWords('resuming', asked.refused.resume));
  if (wantsPaused !== undefined && pause !== undefined) {
    return { entry: 'change-refused', change: 'PAUSE', failure: pause };
  }
  return undefined;
}

function inWords(doing: string, qemuText: string | undefined): Failure | undefined {
  return qemuText === undefined ? undefined : failure('QEMU_REFUSED', { doing, qemuText });
}

/** Without room a job that was paused for want of it pauses again at once; that it was resumed is true all the same. */
export function resume(job: Job, asked: Asked): Move {
  if (asked.resume) return WAIT;
  const command = { execute: 'job-resume', arguments: { id: job.accepted.job } } as const;
  return { move: 'command', asks: 'resume', command, proves: { entry: 'resumed' } };
}
