/** What a watcher of a job gets: every revision once and in order, and between them the latest progress. */
import type { Call, JobEvent } from '../core/block-jobs.ts';
import { inWords } from '../core/entry-words.ts';
import { fail } from '../core/errors.ts';
import { hasEnded, type Job } from '../core/job.ts';
import type { JobView } from '../core/job-view.ts';
import type { JournalEntry } from '../core/journal-entry.ts';
import type { Progress } from '../core/progress.ts';
import type { WatchRequest } from '../core/requests.ts';
import { progressIntervalMs } from '../core/rules/list.ts';
import { timestamp } from '../lib/clock.ts';
import { LinkedAbort } from '../lib/linked-abort.ts';
import type { JobLog, Revision } from './job-log.ts';
import type { Progresses } from './progresses.ts';

/** Longer silence looks like a dead connection. */
const HEARTBEAT_MS = 15_000;

export interface WatchedThrough {
  readonly progresses: Progresses;
  /** The job as callers are shown it now; what its journal says of an ended one may be so no more. */
  readonly now: (job: Job) => Promise<JobView>;
}

/** Ends after the event that ended the job, or when the caller has gone. */
export async function* watchJob(
  log: JobLog,
  { progresses, now }: WatchedThrough,
  request: WatchRequest,
  { signal }: Call,
): AsyncGenerator<JobEvent> {
  const { afterRevision } = request;
  const intervalMs = progressIntervalMs(request);
  const last = log.job.revision;
  if (afterRevision !== undefined && afterRevision > last) {
    fail('REVISION_UNKNOWN', { job: log.job.accepted.job, revision: afterRevision, last });
  }
  let cursor = afterRevision ?? last;
  if (cursor < log.oldest - 1) {
    cursor = log.oldest - 1;
    const { job } = await now(log.job);
    const detail = 'what was before is not kept any more';
    yield { ...live('COMPACTED', { job, progress: undefined }, detail), oldestRevision: log.oldest };
  }
  if (afterRevision === undefined) {
    await progresses.refresh(log);
    yield live('SNAPSHOT', await now(log.at(last)?.job ?? log.job), 'the job as it is');
  }
  using _poll = progresses.poll(log, intervalMs);
  let progressSent = progresses.of(log.job);
  let lastSentMs = performance.now();

  while (!signal.aborted) {
    // Taken before looking: what changes from here on ends the wait below.
    const before = { log: log.changed.now, progress: progresses.changed.now };
    const revision = log.at(cursor + 1);
    if (revision !== undefined) {
      cursor += 1;
      // What is told of the past has no progress: that is a latest value, and today's would be untrue there.
      const isNow = cursor === log.job.revision;
      yield eventOf(revision, isNow ? progresses.of(revision.job) : undefined);
      lastSentMs = performance.now();
      continue;
    }
    if (hasEnded(log.at(cursor)?.job ?? log.job)) return;
    const progress = progresses.of(log.job);
    if (progress !== undefined && progress !== progressSent) {
      progressSent = progress;
      yield progressOf(log.job, progress);
      lastSentMs = performance.now();
      continue;
    }
    // What wakes it may be the progress of other jobs.
    const timeoutMs = lastSentMs + HEARTBEAT_MS - performance.now();
    if (timeoutMs > 0) {
      using wait = new LinkedAbort(signal);
      const options = { signal: wait.signal, timeoutMs };
      await Promise.race([log.changed.after(before.log, options), progresses.changed.after(before.progress, options)]);
      continue;
    }
    yield live('HEARTBEAT', { job: log.job, progress: progresses.of(log.job) }, '');
    lastSentMs = performance.now();
  }
}

function live(
  type: 'SNAPSHOT' | 'PROGRESS' | 'HEARTBEAT' | 'COMPACTED',
  view: Pick<JobEvent, 'job' | 'progress'>,
  detail: string,
): JobEvent {
  return { ...view, type, time: timestamp(), detail };
}

/** What is neither a step nor one of these has changed the job's state, or what is asked of it. */
const TYPE_OF: Partial<Record<JournalEntry['entry'], JobEvent['type']>> = {
  'step-started': 'STEP',
  'step-done': 'STEP',
  'step-refused': 'STEP',
  'step-unknown': 'STEP',
  'undo-started': 'STEP',
  'undo-done': 'STEP',
  'undo-failed': 'STEP',
  'pause-requested': 'STEP',
  'resume-requested': 'STEP',
  'speed-requested': 'STEP',
  'change-refused': 'STEP',
  'asked-again': 'STEP',
  followed: 'STEP',
  speed: 'SPEED',
  paused: 'PAUSED',
  resumed: 'RESUMED',
};

/** One event for all watchers of a job, so that it is made, and encoded, once. */
const events = new WeakMap<Revision | Progress, JobEvent>();

function eventOf(revision: Revision, progress: Progress | undefined): JobEvent {
  const { entry, job } = revision;
  const known = events.get(revision);
  if (known !== undefined && known.progress === progress) return known;
  const type = TYPE_OF[entry.entry] ?? 'STATE';
  const event: JobEvent = { type, time: entry.time, job, progress, detail: inWords(entry) };
  events.set(revision, event);
  return event;
}

function progressOf(job: Job, progress: Progress): JobEvent {
  const known = events.get(progress);
  if (known !== undefined && known.job === job) return known;
  const event = live('PROGRESS', { job, progress }, '');
  events.set(progress, event);
  return event;
}
