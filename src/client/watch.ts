/** The events of a job, every revision once and in order, even if server, gateway or network fail meanwhile. */
import type { WatchJobRequest, WatchJobResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State, type JobEvent, JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { BlockJobError } from './errors.ts';
import { messages, type WatchOptions } from './stream.ts';

/** Ends after the event that ends the job. */
export async function* watch(
  endpoints: Endpoints,
  request: WatchJobRequest,
  options: WatchOptions,
): AsyncGenerator<JobEvent, void, undefined> {
  let next = request;
  const openAt = ({ jobs }: Endpoint) => jobs.watchJob.bind(jobs, next);
  for await (const { event } of messages<WatchJobResponse>(endpoints, openAt, options)) {
    if (event === undefined) continue;
    const cursor = cursorAfter(event, next.afterRevision);
    if (cursor === 'seen') continue;
    // From here on the job is fixed, even if the disk gets another one.
    const id = event.job?.id;
    next = { ...next, afterRevision: cursor };
    if (id !== undefined) next.job = { name: { $case: 'jobId', value: id } };
    yield event;
    if (isLast(event)) return;
  }
}

/** The position of a watch after this event, or 'seen' if it was seen before. Throws if events are missing. */
function cursorAfter({ kind, revision, oldestRevision }: JobEvent, cursor: bigint | undefined): bigint | 'seen' {
  if (kind === JobEvent_Kind.KIND_COMPACTED) return oldestRevision - 1n;
  if (cursor === undefined) return revision;
  if (IS_LIVE[kind]) return revision < cursor ? 'seen' : cursor;
  if (revision <= cursor) return 'seen';
  if (revision === cursor + 1n) return revision;
  throw BlockJobError.onTheWay('DATA_LOSS', `revision ${revision} came after ${cursor}`);
}

/** The events that are not entries of the journal: they repeat the revision of the entry before them. */
export const IS_LIVE: Readonly<Record<JobEvent['kind'], boolean>> = {
  [JobEvent_Kind.KIND_SNAPSHOT]: true,
  [JobEvent_Kind.KIND_STATE]: false,
  [JobEvent_Kind.KIND_PROGRESS]: true,
  [JobEvent_Kind.KIND_SPEED]: false,
  [JobEvent_Kind.KIND_PAUSED]: false,
  [JobEvent_Kind.KIND_RESUMED]: false,
  [JobEvent_Kind.KIND_HEARTBEAT]: true,
  [JobEvent_Kind.KIND_COMPACTED]: true,
  [JobEvent_Kind.KIND_STEP]: false,
  [JobEvent_Kind.KIND_SPACE]: false,
  [JobEvent_Kind.KIND_UNSPECIFIED]: false,
  // An unknown event of a newer service counts as an entry.
  [JobEvent_Kind.UNRECOGNIZED]: false,
};

const ENDS: ReadonlySet<Job_State> = new Set([
  Job_State.STATE_COMPLETED,
  Job_State.STATE_CANCELLED,
  Job_State.STATE_FAILED,
  Job_State.STATE_UNRESOLVED,
]);

/** No event follows, and the state never changes again. */
export function hasEnded(state: Job_State): boolean {
  return ENDS.has(state);
}

/** Live events show the job as it is now, which may be ahead of the entries that follow. */
function isLast({ kind, job }: JobEvent): boolean {
  const isOfItsRevision = !IS_LIVE[kind] || kind === JobEvent_Kind.KIND_SNAPSHOT;
  return isOfItsRevision && job !== undefined && hasEnded(job.state);
}
