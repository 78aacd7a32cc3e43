/** What is wanted otherwise of a job that goes on: another limit, a pause, that it goes on again. */
import { type Failure, failure } from '../errors.ts';
import type { Job } from '../job/job.ts';
import type { EntryBody } from '../job/journal-entry.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { Asking, Move } from './moves.ts';
import { type Going, record, type Situation, WAIT } from './situation.ts';

/** Undefined: QEMU was asked already. */
export function once({ asked }: Situation, asks: Asking, command: QmpCommand, proves?: EntryBody): Move | undefined {
  return asked.has(asks) ? undefined : { move: 'command', asks, command, ...(proves !== undefined && { proves }) };
}

/** While a job waits for its end, what callers want otherwise in it is seen to. */
export function meanwhile(going: Going): Move {
  return refusedChange(going) ?? change(going) ?? WAIT;
}

/** What others have made otherwise, and what has become of a wish. */
export function observed({ job, now, pause, asked }: Going): Move | undefined {
  const { wantsBandwidth, wantsPaused } = job;
  const speed = now.speedBytesPerSecond;
  // The answer to a wish may have been lost.
  const isOther = wantsBandwidth === undefined ? speed !== job.bandwidthBytesPerSecond : asked.has('speed');
  if (isOther && speed === (wantsBandwidth ?? speed)) return record({ entry: 'speed', bandwidthBytesPerSecond: speed });
  if (wantsPaused === undefined && pause === job.pauseReason) return undefined;
  if (wantsPaused === undefined && pause === 'USER' && !asked.has('pauseLasts')) return undefined;
  if ((wantsPaused ?? pause !== undefined) !== (pause !== undefined)) return undefined;
  return record(pause === undefined ? { entry: 'resumed' } : { entry: 'paused', reason: pause });
}

/** What callers want otherwise in a job that goes on. */
export function change(going: Going): Move | undefined {
  const { wantsBandwidth, wantsPaused, accepted } = going.job;
  if (wantsBandwidth !== undefined) {
    const command = {
      execute: 'block-job-set-speed',
      arguments: { device: accepted.job, speed: wantsBandwidth },
    } as const;
    return once(going, 'speed', command, { entry: 'speed', bandwidthBytesPerSecond: wantsBandwidth });
  }
  if (wantsPaused === true && going.pause === undefined) {
    const command = { execute: 'job-pause', arguments: { id: accepted.job } } as const;
    return once(going, 'pause', command, { entry: 'paused', reason: 'USER' });
  }
  return wantsPaused === false && going.pause !== undefined ? resume(going) : undefined;
}

/** QEMU's JobVerbTable (job.c): to be paused, resumed or given another limit, a job must not be on its way out. */
export function takesChanges(status: string): boolean {
  return ['created', 'running', 'paused', 'ready', 'standby'].includes(status);
}

/** What QEMU does not take is asked for no longer, and whoever wanted it is told. */
export function refusedChange(going: Going): Move | undefined {
  const { job, state, refused } = going;
  const { wantsBandwidth, wantsPaused } = job;
  const late = takesChanges(going.now.status) ? undefined : failure('JOB_ENDING', { job: job.accepted.job, state });
  const speed = late ?? refusal(job, 'setting the limit', refused.speed);
  if (wantsBandwidth !== undefined && speed !== undefined) {
    return record({ entry: 'change-refused', change: 'SPEED', failure: speed });
  }
  const pause =
    late ?? (wantsPaused ? refusal(job, 'pausing', refused.pause) : refusal(job, 'resuming', refused.resume));
  if (wantsPaused === undefined || pause === undefined) return undefined;
  return record({ entry: 'change-refused', change: 'PAUSE', failure: pause });
}

function refusal({ accepted }: Job, doing: string, qemuText: string | undefined): Failure | undefined {
  const { domain } = accepted;
  return qemuText === undefined ? undefined : failure('REFUSED_BY_QEMU', { domain, doing, qemuText });
}

/** Without room a job that was paused for want of it pauses again at once; that it was resumed is true all the same. */
export function resume(going: Going): Move | undefined {
  const command = { execute: 'job-resume', arguments: { id: going.job.accepted.job } } as const;
  return once(going, 'resume', command, { entry: 'resumed' });
}
