/**
 * The course of a job, from its start to each of its ends, found by the very functions that would carry it out: this
 * file has no knowledge of its own about jobs.
 */

import { handoverOf } from '../job/handover-of.ts';
import { advance, begin, type ConcludedJob, concludedJob, type Job } from '../job/job.ts';
import type { Accepted, EntryBody } from '../job/journal-entry.ts';
import type { Action } from '../job/step.ts';
import type { Asking, Circumstance, Seen } from '../moves/moves.ts';
import { nextMove } from '../moves/next-move.ts';
import type { GuestCommand } from '../qemu/commands.ts';
import { planSettling } from './settling.ts';
import { qmp } from './steps.ts';

export interface PlannedStep {
  readonly name: string;
  readonly phase: 'START' | 'FINISH' | 'PIVOT' | 'CANCEL' | 'CLEAN_UP';
  /** Undefined if it is known only at that moment. */
  readonly run: Action | { readonly do: 'guest'; readonly command: GuestCommand } | undefined;
  readonly undo?: Action;
  readonly reason: string;
}

/** An arbitrary time: no result depends on it. */
const NO_TIME = '1970-01-01T00:00:00.000Z';
const READY: readonly EntryBody[] = [{ entry: 'running' }, { entry: 'ready', seenAt: NO_TIME }];
const CANCEL: EntryBody = { entry: 'cancel-requested', force: false };

export function preview(accepted: Accepted): readonly PlannedStep[] {
  const { destination, options, plan } = accepted;
  const start = plan.map(({ holdsGuest, ...step }): PlannedStep => {
    const reason = holdsGuest === true ? 'the guest is paused for it: QEMU can crash here under a busy guest' : '';
    return { ...step, phase: 'START', reason };
  });
  const running = jobAfter(accepted, [{ entry: 'running' }]);
  const cancelled = end(jobAfter(accepted, [{ entry: 'running' }, CANCEL]), 'running', 'CANCEL', 'before it is done');
  if (destination === undefined) {
    const finished = end(running, 'pending', 'FINISH', '');
    return [...start, ...finished.steps, ...cancelled.steps, ...cleanUp(finished.job, cancelled.job)];
  }
  const request = { entry: 'pivot-requested', pauseGuest: options.pauseGuest } as const;
  const pivoted = end(jobAfter(accepted, [...READY, request]), 'ready', 'PIVOT', '');
  const left = end(jobAfter(accepted, [...READY, CANCEL]), 'ready', 'CANCEL', 'when READY: it leaves a complete copy');
  const ends = [...pivoted.steps, ...cancelled.steps, ...left.steps];
  return [...start, ...ends, ...cleanUp(pivoted.job, cancelled.job)];
}

function jobAfter(accepted: Accepted, entries: readonly EntryBody[]): Job {
  return entries.reduce(after, begin({ ...accepted, time: NO_TIME, revision: 1 }));
}

function after(job: Job, entry: EntryBody): Job {
  return advance(job, { ...entry, time: NO_TIME, revision: job.revision + 1 });
}

/** Asks for the next move, and pretends to make it, until QEMU has all commands. */
function end(
  job: Job,
  begins: Status,
  phase: PlannedStep['phase'],
  reason: string,
): { readonly job: ConcludedJob; readonly steps: readonly PlannedStep[] } {
  const steps: PlannedStep[] = [];
  const asked = new Set<Asking | Circumstance>(['stopsSoon']);
  let now = job;
  let guestRuns = true;
  let status = begins;
  for (;;) {
    const move = nextMove(now, seen(now, status, guestRuns), asked, {});
    switch (move.move) {
      case 'record':
        now = after(now, move.entry);
        break;
      case 'hold-guest':
        now = after(now, { entry: 'guest-held', because: move.because });
        steps.push({ name: 'hold-guest', phase, run: guest({ execute: 'stop' }), reason: move.because });
        guestRuns = false;
        break;
      case 'carry-bitmaps':
        steps.push({ name: 'carry-bitmaps', phase, run: undefined, reason: BITMAPS });
        asked.add('bitmaps');
        break;
      case 'command':
        steps.push({ name: move.command.execute, phase, run: qmp(move.command), reason });
        asked.add(move.asks);
        if (move.asks === 'finalize') status = 'concluded';
        break;
      case 'flush':
        now = after(now, { entry: 'flushed', what: move.what });
        steps.push({ name: `flush-${move.what.toLowerCase()}`, phase, run: undefined, reason: FLUSH[move.what] });
        break;
      default: {
        const ended = now.concluded === undefined ? conclude(now, phase !== 'CANCEL') : now;
        if (!guestRuns) {
          const run = guest({ execute: 'cont' });
          steps.push({ name: 'release-guest', phase, run, reason: 'it is resumed when the job has ended' });
        }
        return { job: ended, steps };
      }
    }
  }
}

type Status = 'running' | 'ready' | 'pending' | 'concluded';

const BITMAPS = 'persistent dirty bitmaps follow the disk';
const FLUSH = {
  DATA: 'the moved data is on stable storage before the old images are dropped; an error is reported, and ends the job',
  HEADER: 'the header that drops the old images is on stable storage, and read back, before the job is done',
};

function guest(command: GuestCommand): PlannedStep['run'] {
  return { do: 'guest', command };
}

function conclude(job: Job, isDone: boolean): ConcludedJob {
  const { destination, source } = job.accepted;
  const isMoved = isDone && destination !== undefined;
  const concluded = after(job, {
    entry: 'concluded',
    how: 'CONCLUDED',
    qemuError: isDone ? undefined : 'Operation canceled',
    deviceOn: isMoved ? 'DESTINATION' : 'SOURCE',
    devicePath: isMoved ? destination.path : source.path,
  });
  return concludedJob(concluded);
}

function cleanUp(afterSuccess: ConcludedJob, otherwise: ConcludedJob): readonly PlannedStep[] {
  const [done, broken] = [planSettling(afterSuccess), planSettling(otherwise)];
  const either = new Map([...done, ...broken].map((step) => [step.name, step]));
  return [...either.values()].map(({ name, run }) => {
    const [isDone, isBroken] = [done, broken].map((steps) => steps.some((step) => step.name === name));
    const reason = isDone && isBroken ? 'in any case' : isDone ? 'after success' : 'if it is cancelled';
    return { name, phase: 'CLEAN_UP', run, reason };
  });
}

function seen(job: Job, status: Status, guestRuns: boolean): Seen {
  return {
    qemu: 'UP',
    at: NO_TIME,
    job: {
      status,
      error: undefined,
      ioStatus: 'ok',
      paused: false,
      speedBytesPerSecond: job.bandwidthBytesPerSecond,
      remainingBytes: 0,
      copiedBytes: 0,
      begun: true,
    },
    deviceOn: 'SOURCE',
    devicePath: job.accepted.source.path,
    ...(job.flushed === 'HEADER' && handoverOf(job.accepted) !== undefined ? { header: { is: 'NEW' } } : {}),
    guestRuns,
    guestMigrates: false,
  };
}

/** For people: a QMP command as QEMU takes it, or a file operation in words. */
export function inNotation(action: NonNullable<PlannedStep['run']>): string {
  switch (action.do) {
    case 'guest':
    case 'qmp':
    case 'qmp-job':
      return JSON.stringify(action.command);
    case 'end-qmp-job':
      return `end and dismiss QEMU's job ${action.qemuJob}, if it exists`;
    case 'create-file':
      return action.takeOver
        ? `take over the empty file ${action.path}, and make it ${action.sizeBytes} bytes long`
        : `create ${action.path}, which must not exist, with ${action.sizeBytes} bytes`;
    case 'remove-file':
      return `remove ${action.path}, if it is the very file that ${action.madeBy} made`;
    case 'prove-file':
      return `prove that node ${action.node} has open what is at ${action.path}`;
    case 'compare': {
      const { destination, backing } = action.comparison;
      return `compare what ${destination.node} (${destination.path}) shows, ${destination.bytes} bytes, with ${backing.node} (${backing.path})`;
    }
    case 'end-comparison':
      return 'end the comparison, and close the nodes that it has opened';
    case 'sync-file':
      return `sync ${action.path}`;
    case 'delete-image':
      return `delete ${action.image.path}, if it is still the same file and no VM has it open`;
  }
}
