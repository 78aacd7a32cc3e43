/** The events of all jobs: each revision once, in order within a job, also when connections are lost. */
import type { WatchJobsRequest, WatchJobsResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { messages, type WatchOptions } from './stream.ts';
import { IS_LIVE } from './watch.ts';

/** Ends when the caller leaves. Throws if the service is away for too long. */
export async function* watchJobs(
  endpoints: Endpoints,
  request: WatchJobsRequest,
  options: WatchOptions,
): AsyncGenerator<WatchJobsResponse, void, undefined> {
  let { resumeToken } = request;
  /** Revisions of jobs since the last token. */
  const since = new Map<string, bigint>();
  const openAt = ({ jobs }: Endpoint) => jobs.watchJobs.bind(jobs, { ...request, resumeToken });
  for await (const message of messages<WatchJobsResponse>(endpoints, openAt, options)) {
    if (isRepeated(message, since)) continue;
    if (message.resumeToken !== '') {
      resumeToken = message.resumeToken;
      since.clear();
    }
    yield message;
  }
}

/** Whether the caller has already got this revision. Remembers it otherwise. */
function isRepeated({ about, resumeToken }: WatchJobsResponse, since: Map<string, bigint>): boolean {
  if (about?.$case === 'snapshot') since.clear();
  if (about?.$case !== 'event' || about.value.job === undefined || IS_LIVE[about.value.kind]) return false;
  const { id } = about.value.job;
  const { revision } = about.value;
  // After a message with a token nothing is repeated: the service continues after that message.
  if (revision <= (since.get(id) ?? 0n)) return true;
  if (resumeToken === '') since.set(id, revision);
  return false;
}
