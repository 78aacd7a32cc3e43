/**
 * The events for one watcher of a job: every revision once and in order, at its own pace, and between them the latest
 * progress. It is a cursor, not a queue: it costs nothing while it does not read, and misses nothing.
 */
import { JobEvent } from '../core/job/job-event.ts';
import { isOver, type JobView } from '../core/job/job-view.ts';
import type { WatchRequest } from '../core/requests.ts';
import { timestamp } from '../lib/clock.ts';
import type { Feed } from './feed.ts';
import { HEARTBEAT_MS } from './follow-jobs.ts';

/** The job when the watch begins. */
export interface JobNow {
  /** The job after its last entry. */
  readonly known: JobView;
  /** The job as callers see it now; the journal of an ended job may be out of date. */
  readonly shown: () => Promise<JobView>;
}

/** Ends after the event that ended the job, or when the caller has left. `intervalMs`: between two PROGRESS. */
export async function* follow(
  feed: Feed,
  { known, shown }: JobNow,
  { afterRevision, intervalMs }: Pick<WatchRequest, 'afterRevision'> & { readonly intervalMs: number },
  signal: AbortSignal,
): AsyncGenerator<JobEvent> {
  const first = afterRevision === undefined ? live('SNAPSHOT', await shown(), 'the job as it is') : undefined;
  if (first !== undefined) yield first;
  const begin = first ?? known;
  let cursor = afterRevision ?? begin.job.revision;
  // A watcher that is cut off resumes by its revision, so it gets no revision that it was not sent.
  let sent = cursor === begin.job.revision ? begin : undefined;
  let [sentMs, progressMs] = [performance.now(), -Infinity];
  while (!signal.aborted) {
    // Taken before looking: any later change ends the wait below.
    const before = feed.changed.now;
    const next = feed.at(cursor + 1);
    if (cursor < feed.oldest - 1) {
      cursor = feed.oldest - 1;
      const { job } = await shown();
      yield live('COMPACTED', { job, progress: undefined }, 'earlier revisions are not kept any more', feed.oldest);
    } else if (next !== undefined) {
      cursor += 1;
      sent = next;
      yield next;
    } else {
      if (sent !== undefined && isOver(sent.job)) return;
      if (feed.failed !== undefined) throw feed.failed;
      const latest = feed.progress?.job.revision === cursor ? feed.progress : undefined;
      const isNew = latest !== undefined && latest.progress !== sent?.progress;
      const silentInMs = sentMs + HEARTBEAT_MS - performance.now();
      const dueInMs = isNew ? progressMs + intervalMs - performance.now() : Infinity;
      if (isNew && dueInMs <= 0) {
        progressMs = performance.now();
        sent = latest;
        yield latest;
      } else if (silentInMs > 0) {
        await feed.changed.after(before, { signal, timeoutMs: Math.min(dueInMs, silentInMs) });
        continue;
      } else {
        const now = latest ?? sent;
        if (now !== undefined) yield live('HEARTBEAT', now, '');
      }
    }
    sentMs = performance.now();
  }
}

function live(
  type: 'SNAPSHOT' | 'COMPACTED' | 'HEARTBEAT',
  { job, progress }: JobView,
  detail: string,
  oldestRevision?: number,
): JobEvent {
  return new JobEvent({ type, time: timestamp(), job, progress, detail, oldestRevision });
}
