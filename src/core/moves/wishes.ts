/** Changes that callers, or its end policy, request for a running job: another limit, a pause, a resume, another write mode. */
import { type Failure, failure } from '../errors.ts';
import type { Job } from '../job/job.ts';
import type { EntryBody, PauseReason } from '../job/journal-entry.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { Asking, Move } from './moves.ts';
import { type Going, record, type Situation, WAIT } from './situation.ts';

/** Undefined if QEMU was asked already. */
export function once({ asked }: Situation, asks: Asking, command: QmpCommand, proves?: EntryBody): Move | undefined {
  return asked.has(asks) ? undefined : { move: 'command', asks, command, ...(proves !== undefined && { proves }) };
}

/** Handles requested changes while a job waits for its end. */
export function meanwhile(going: Going): Move {
  return refusedChange(going) ?? change(going) ?? WAIT;
}

/** Changes that other clients made, and the results of requests. */
export function observed({ job, now, pause, asked }: Going): Move | undefined {
  const { wantsBandwidth, wantsPaused } = job;
  const speed = now.speedBytesPerSecond;
  // The answer to a request may have been lost.
  const isOther = wantsBandwidth === undefined ? speed !== job.bandwidthBytesPerSecond : asked.has('speed');
  if (isOther && speed === (wantsBandwidth ?? speed)) return record({ entry: 'speed', bandwidthBytesPerSecond: speed });
  if (wantsPaused === undefined && pause === job.pauseReason) return undefined;
  if (wantsPaused === undefined && pause === 'USER' && !asked.has('pauseLasts')) return undefined;
  if ((wantsPaused ?? pause !== undefined) !== (pause !== undefined)) return undefined;
  return record(pause === undefined ? { entry: 'resumed' } : { entry: 'paused', reason: pause });
}

/** The change that callers request for a running job. */
export function change(going: Going): Move | undefined {
  const { wantsBandwidth, wantsPaused, switched, accepted } = going.job;
  if (wantsBandwidth !== undefined) {
    const command = {
      execute: 'block-job-set-speed',
      arguments: { device: accepted.job, speed: wantsBandwidth },
    } as const;
    return once(going, 'speed', command, { entry: 'speed', bandwidthBytesPerSecond: wantsBandwidth });
  }
  // For its end it does not matter.
  if (switched === 'REQUESTED' && going.state !== 'CANCELLING') {
    const command = {
      execute: 'block-job-change',
      arguments: { id: accepted.job, type: 'mirror', 'copy-mode': 'write-blocking' },
    } as const;
    const move = once(going, 'mode', command, { entry: 'write-mode', writeMode: 'BLOCKING' });
    if (move !== undefined) return move;
  }
  if (wantsPaused === true && going.pause === undefined) return pauseFor(going, 'USER');
  return wantsPaused === false && going.pause !== undefined ? resume(going) : undefined;
}

export function pauseFor(going: Going, reason: PauseReason): Move | undefined {
  const command = { execute: 'job-pause', arguments: { id: going.job.accepted.job } } as const;
  return once(going, 'pause', command, { entry: 'paused', reason });
}

/** QEMU's JobVerbTable (job.c): a job that is ending cannot be paused or resumed, or get another limit. */
export function takesChanges(status: string): boolean {
  return ['created', 'running', 'paused', 'ready', 'standby'].includes(status);
}

/** A change that QEMU refuses is not asked again, and its caller gets the error. */
export function refusedChange(going: Going): Move | undefined {
  const { job, state, refused } = going;
  const { wantsBandwidth, wantsPaused, switched } = job;
  const late = takesChanges(going.now.status) ? undefined : failure('JOB_ENDING', { job: job.accepted.job, state });
  const speed = late ?? refusal(job, 'setting the limit', refused.speed);
  if (wantsBandwidth !== undefined && speed !== undefined) {
    return record({ entry: 'change-refused', change: 'SPEED', failure: speed });
  }
  const mode = late ?? refusal(job, 'switching the write mode', refused.mode);
  if (switched === 'REQUESTED' && mode !== undefined) {
    return record({ entry: 'change-refused', change: 'WRITE_MODE', failure: mode });
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

/** A job that was paused because space ran out pauses again at once if there is none; it was resumed all the same. */
export function resume(going: Going): Move | undefined {
  const command = { execute: 'job-resume', arguments: { id: going.job.accepted.job } } as const;
  return once(going, 'resume', command, { entry: 'resumed' });
}
