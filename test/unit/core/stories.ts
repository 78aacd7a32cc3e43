/** Jobs to test with: each is the fold of a real journal, so none is in a state that no job can be in. */
import type { Leftover } from '../../../src/core/block-jobs.ts';
import type { Handover } from '../../../src/core/job/handover.ts';
import { fold, type Job, type JobState } from '../../../src/core/job/job.ts';
import type { Accepted, EntryBody, JournalEntry } from '../../../src/core/job/journal-entry.ts';
import { outcomeOf } from '../../../src/core/job/outcome-of.ts';
import type { PolicyAction } from '../../../src/core/job/policy-step.ts';
import type { SpaceLevel } from '../../../src/core/job/space-told.ts';
import type { MadeFile } from '../../../src/core/job/step.ts';
import { type EndPolicy, type JobOptions, plainOptions } from '../../../src/core/job-options.ts';

export const JOB = 'bj0011223344556677';
export const SOURCE = '/vm/disk.qcow2';
export const DESTINATION = '/copies/disk.qcow2';

export const OPTIONS: JobOptions = { ...plainOptions(0), onNoSpace: 'PAUSE' };

export const ACCEPTED: Accepted = {
  entry: 'accepted',
  version: 2,
  job: JOB,
  kind: 'COPY',
  host: 'host1',
  domain: 'vm1',
  domainUuid: undefined,
  process: { pid: 1234, startTime: '5678' },
  disk: 'vd0',
  qdev: '/machine/peripheral/vd0/virtio-backend',
  source: { node: 'top', path: SOURCE, format: 'qcow2' },
  destination: { node: JOB, path: DESTINATION, format: 'QCOW2', target: { kind: 'file', path: DESTINATION } },
  unused: { afterSuccess: ['top', 'top-file', '#block123'], otherwise: [JOB, `${JOB}-file`] },
  committed: [],
  pauseGuestBecause: undefined,
  options: OPTIONS,
  plan: [
    {
      name: 'create-destination',
      run: { do: 'create-file', path: DESTINATION, takeOver: false, sizeBytes: 0, owner: undefined },
      undo: { do: 'remove-file', path: DESTINATION, madeBy: 'create-destination' },
    },
    // The contents of the last step do not matter to a fold: with it QEMU has the job.
    { name: 'start-mirror', run: { do: 'end-qmp-job', qemuJob: JOB } },
  ],
};

/** The fields of each kind instead of a copy's destination. */
export const PULL = { kind: 'PULL', destination: undefined, plan: [] } as const satisfies Partial<Accepted>;
export const COMMIT = { kind: 'COMMIT', destination: undefined, plan: [] } as const satisfies Partial<Accepted>;
export const ACTIVE_COMMIT: Partial<Accepted> = {
  kind: 'ACTIVE_COMMIT',
  destination: { node: 'base', path: '/vm/base.qcow2', format: 'QCOW2', target: undefined },
  plan: [],
};
export const BASE = '/vm/base.qcow2';
/** As of a commit into the base; the owner of each header does not matter to a fold. */
export const HANDOVER: Handover = {
  data: { node: 'base', path: BASE },
  overlay: { node: 'top', path: SOURCE, format: 'qcow2' },
  backingFile: BASE,
};
export const DATA_FLUSHED: EntryBody = { entry: 'flushed', what: 'DATA' };
export const HEADER_FLUSHED: EntryBody = { entry: 'flushed', what: 'HEADER' };

export const MADE: MadeFile = { path: DESTINATION, created: true, device: '7', inode: '42', birthTimeNs: '1' };
export const CREATED: EntryBody = { entry: 'step-done', step: 'create-destination', made: MADE };
export const RUNNING: EntryBody = { entry: 'running' };
/** When QEMU was asked that said READY: a little before it was written down. */
export const SEEN_AT = timeOf(2.5);
export const READY: EntryBody = { entry: 'ready', seenAt: SEEN_AT };
export const VERDICT: Extract<EntryBody, { entry: 'verdict' }> = {
  entry: 'verdict',
  convergence: 'STALLED',
  because: 'GUEST',
  bytesPerSecond: 20 * 2 ** 20,
  demandBytesPerSecond: 32 * 2 ** 20,
  guestBytesPerSecond: 2 * 2 ** 20,
  guestWriteBytes: 4096,
  granularityBytes: 65_536,
  dataBytes: 256 * 2 ** 20,
  remainingBytes: 100 * 2 ** 20,
  floorBytes: 96 * 2 ** 20,
};
export const POLICY: EndPolicy = {
  patienceMs: 60_000,
  ceilingBytesPerSecond: 0,
  switchToBlocking: false,
  chooseGranularity: false,
  atDeadline: 'ABORT',
  maxGuestPauseMs: undefined,
};
export function policyStep(what: PolicyAction): EntryBody {
  const numbers = { remainingBytes: 100 * 2 ** 20, bytesPerSecond: 20 * 2 ** 20 };
  const bandwidth = what === 'LIMIT' ? { bandwidthBytesPerSecond: 80 * 2 ** 20 } : {};
  return { entry: 'policy-step', what, because: 'a test', ...numbers, ...bandwidth };
}
/** For a job that may slow its guest down. */
export const THROTTLING: Partial<JobOptions> = {
  endPolicy: { ...POLICY, guestThrottle: { floorBytesPerSecond: 2 ** 19, maxDurationMs: 600_000 } },
};
export const THROTTLE = { entry: 'throttle-requested', limitBytesPerSecond: 2 ** 20 } as const satisfies EntryBody;
export const THROTTLED: EntryBody = { entry: 'throttled', limitBytesPerSecond: 2 ** 20 };
export const LIFTED = { entry: 'throttle-lifted', because: 'OVER' } as const satisfies EntryBody;
export const TIME_IS_UP: EntryBody = { entry: 'throttle-lifted', because: 'TIME_IS_UP', hasMark: true };
export const FOLLOWED: EntryBody = { entry: 'followed', seenAt: timeOf(3.5) };
export const CANCEL: EntryBody = { entry: 'cancel-requested', force: false };
export const FORCE: EntryBody = { entry: 'cancel-requested', force: true };
export const FINISH: EntryBody = { entry: 'finish-requested' };
export const HELD: EntryBody = { entry: 'guest-held', because: 'a test' };

export function pivot(pauseGuest: JobOptions['pauseGuest'] = 'AUTO'): EntryBody {
  return { entry: 'pivot-requested', pauseGuest };
}

export function timeOf(revision: number): string {
  return new Date(Date.UTC(2026, 0, 1) + revision * 1000).toISOString();
}

function dated(body: EntryBody, index: number): JournalEntry {
  return { ...body, revision: index + 1, time: timeOf(index + 1) };
}

/** Numbers and dates entries, from revision 1 on. */
export function journalOf(first: Accepted, ...rest: readonly EntryBody[]): [JournalEntry, ...JournalEntry[]] {
  return [dated(first, 0), ...rest.map((body, index) => dated(body, index + 1))];
}

/** The job that was accepted, and of which these entries were written then. */
export function jobOf(...entries: readonly EntryBody[]): Job {
  return fold(journalOf(ACCEPTED, ...entries));
}

/** The same, with other options or facts from the start. */
export function jobWith(
  { options, ...more }: Omit<Partial<Accepted>, 'options'> & { options?: Partial<JobOptions> },
  ...entries: readonly EntryBody[]
): Job {
  return fold(journalOf({ ...ACCEPTED, ...more, options: { ...OPTIONS, ...options } }, ...entries));
}

export const CONCLUDED: EntryBody = {
  entry: 'concluded',
  how: 'CONCLUDED',
  qemuError: undefined,
  deviceOn: 'SOURCE',
  devicePath: SOURCE,
};
export const OUTCOME = outcomeOf(jobOf());
export const ended = (state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED'): EntryBody => ({
  entry: 'ended',
  state,
  failure: undefined,
  outcome: outcomeOf(jobOf(RUNNING)),
});

/** A way to each state that a job can be in before its end; the ones that matter twice are there twice. */
/** A level of the space at the destination. */
export function spaceIs(level: SpaceLevel): EntryBody {
  return { entry: 'space', level, neededBytes: 3, freeBytes: 2 };
}

const NO_SPACE: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };

export const STORIES: readonly (readonly [name: string, state: JobState, entries: readonly EntryBody[]])[] = [
  ['starting', 'STARTING', []],
  ['running', 'RUNNING', [RUNNING]],
  ['running, out of space', 'RUNNING', [RUNNING, { entry: 'paused', reason: 'NO_SPACE' }]],
  ['running, the space used up', 'RUNNING', [RUNNING, spaceIs('FULL')]],
  ['running, paused before it is out of space', 'RUNNING', [RUNNING, spaceIs('FULL'), NO_SPACE]],
  ['running, space again', 'RUNNING', [RUNNING, spaceIs('FULL'), NO_SPACE, spaceIs('ENOUGH')]],
  ['ready', 'READY', [RUNNING, READY]],
  ['ready, failing', 'READY', [RUNNING, READY, { entry: 'paused', reason: 'IO_ERROR' }]],
  ['pivoting', 'PIVOTING', [RUNNING, READY, pivot()]],
  ['pivoting, guest always held', 'PIVOTING', [RUNNING, READY, pivot('ALWAYS')]],
  ['pivoting, guest never held', 'PIVOTING', [RUNNING, READY, pivot('NEVER')]],
  ['pivoting with a held guest', 'PIVOTING', [RUNNING, READY, pivot('ALWAYS'), HELD]],
  ['cancelled before READY', 'CANCELLING', [RUNNING, CANCEL]],
  ['cancelled before READY, and READY since', 'CANCELLING', [RUNNING, CANCEL, READY]],
  ['cancelled before READY by force', 'CANCELLING', [RUNNING, FORCE]],
  ['cancelled after READY', 'CANCELLING', [RUNNING, READY, CANCEL]],
  ['cancelled after READY by force', 'CANCELLING', [RUNNING, READY, FORCE]],
  ['cancelled after READY, followed still', 'CANCELLING', [RUNNING, READY, CANCEL, FOLLOWED]],
  ['finished', 'CANCELLING', [RUNNING, READY, FINISH]],
  ['finished, followed still', 'CANCELLING', [RUNNING, READY, FINISH, FOLLOWED]],
  ['pivot cancelled', 'CANCELLING', [RUNNING, READY, pivot(), FORCE]],
  ['pivot cancelled with a held guest', 'CANCELLING', [RUNNING, READY, pivot('ALWAYS'), HELD, FORCE]],
];

/** A file that a job has left. */
export const LEFTOVER: Leftover = {
  id: 'file:1',
  kind: 'FILE',
  host: 'host1',
  domain: 'vm1',
  jobId: 'bj1',
  name: '/x',
  allocatedBytes: 5,
  text: 'why',
  blockedBy: '',
  createTime: undefined,
};
