/** The events of a job, every revision once and in order, even if server, gateway or network fail meanwhile. */
import { Metadata } from '@grpc/grpc-js';
import type { WatchJobRequest, WatchJobResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import { type JobEvent, JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';
import { deadlineOf, forTimer } from './durations.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { BlockJobError, errorOfCall, isServiceError } from './errors.ts';
import { hasEnded } from './job.ts';
import type { CallOptions } from './options.ts';
import { Persistence } from './persistence.ts';

/** The service sends something every 15 seconds. */
const SILENCE_MS = 35_000;

export interface WatchOptions extends CallOptions {
  /** How long a silent connection counts as working. The service sends something every 15 seconds. */
  readonly silenceMs?: number | undefined;
}

/** Ends after the event that ends the job. */
export async function* watch(
  endpoints: Endpoints,
  request: WatchJobRequest,
  options: WatchOptions,
): AsyncGenerator<JobEvent, void, undefined> {
  const persistence = new Persistence(endpoints, options);
  let next = request;
  for (;;) {
    const endpoint = endpoints.current;
    try {
      for await (const event of read(endpoint, next, options, persistence.deadlineMs)) {
        persistence.heard();
        const cursor = cursorAfter(event, next.afterRevision);
        if (cursor === 'seen') continue;
        // From here on the job is fixed, even if the disk gets another one.
        const id = event.job?.id;
        next = { ...next, afterRevision: cursor, ...(id === undefined ? {} : { job: refTo(id) }) };
        yield event;
        if (isLast(event)) return;
      }
      return;
    } catch (error) {
      if (!(error instanceof BlockJobError)) throw error;
      await persistence.after(error, endpoint);
    }
  }
}

function refTo(value: string): NonNullable<WatchJobRequest['job']> {
  return { name: { $case: 'jobId', value } };
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
  [JobEvent_Kind.KIND_UNSPECIFIED]: false,
  // An unknown event of a newer service counts as an entry.
  [JobEvent_Kind.UNRECOGNIZED]: false,
};

/** Live events show the job as it is now, which may be ahead of the entries that follow. */
function isLast({ kind, job }: JobEvent): boolean {
  const isOfItsRevision = !IS_LIVE[kind] || kind === JobEvent_Kind.KIND_SNAPSHOT;
  return isOfItsRevision && job !== undefined && hasEnded(job.state);
}

/** One stream, until it ends or breaks. */
async function* read(
  endpoint: Endpoint,
  request: WatchJobRequest,
  { signal, silenceMs = SILENCE_MS }: WatchOptions,
  deadlineMs: number,
): AsyncGenerator<JobEvent, void, undefined> {
  await endpoint.tried(signal, deadlineMs);
  const stream = endpoint.jobs.watchJob(request, new Metadata(), deadlineOf(deadlineMs));
  const messages = (stream as AsyncIterable<WatchJobResponse>)[Symbol.asyncIterator]();
  let isSilent = false;
  const leave = () => stream.cancel();
  signal?.addEventListener('abort', leave, { once: true });
  try {
    for (;;) {
      // Runs while the client waits for an event, not while the reader is slow.
      const timer = setTimeout(() => {
        isSilent = true;
        stream.cancel();
      }, forTimer(silenceMs));
      const message = await messages.next().finally(() => clearTimeout(timer));
      if (message.done === true) return;
      if (message.value.event !== undefined) yield message.value.event;
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (isSilent) throw BlockJobError.onTheWay('UNAVAILABLE', `${endpoint.address}: silent for ${silenceMs} ms`);
    throw isServiceError(error) ? errorOfCall(error, endpoint.address) : error;
  } finally {
    signal?.removeEventListener('abort', leave);
    stream.cancel();
  }
}
