/** WatchJobs: message → core words, and core messages of a watch → messages. */
import {
  BlockJobServiceService,
  type WatchJobsRequest,
  WatchJobsResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type { BlockJobs, Call, Requests } from '../core/block-jobs.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { JobsMessage } from '../core/jobs-message.ts';
import { fromJobEvent } from './answers.ts';
import { toMs } from './durations.ts';
import { positionsOf, ResumeTokens } from './resume-token.ts';
import { statusOf } from './status.ts';

export function toWatchJobsRequest(message: WatchJobsRequest): Requests['watchJobs'] {
  const { domain, labelFilter: labels, createdByFilter: createdBy, activeOnly } = message;
  const filter = { domain, labels, createdBy, activeOnly };
  const positions = positionsOf(message.resumeToken, filter);
  return { ...filter, positions, progressIntervalMs: toMs(message.progressInterval) };
}

/** Encoded already: each event once for all who watch, and its token behind it. */
export async function* encodedJobs(
  jobs: BlockJobs,
  request: Requests['watchJobs'],
  call: Call,
): AsyncGenerator<Uint8Array> {
  const tokens = new ResumeTokens(request);
  for await (const message of jobs.watchJobs(request, call)) {
    const resumeToken = tokens.after(message);
    if (message.is !== 'EVENT') {
      yield WatchJobsResponse.encode({ about: aboutOf(message), resumeToken }).finish();
      continue;
    }
    // A field of its own in both messages, so that one encoding is good for both.
    const event = message.event.encoded(encodeEvent);
    yield resumeToken === ''
      ? event
      : Buffer.concat([event, WatchJobsResponse.encode({ about: undefined, resumeToken }).finish()]);
  }
}

/** As both WatchJob and WatchJobs have it. */
export function encodeEvent(event: JobEvent): Uint8Array {
  return BlockJobServiceService.watchJob.responseSerialize({ event: fromJobEvent(event) });
}

function aboutOf(message: Exclude<JobsMessage, { readonly is: 'EVENT' }>): WatchJobsResponse['about'] {
  switch (message.is) {
    case 'SNAPSHOT': {
      const { host, lost } = message;
      return { $case: 'snapshot', value: { host, compacted: lost !== undefined, text: lost ?? '' } };
    }
    case 'SYNCED':
      return { $case: 'synced', value: { host: message.host, startingJobIds: [...message.starting] } };
    case 'UNREACHABLE':
      return { $case: 'unreachable', value: { host: message.host, error: statusOf(message.why) } };
    case 'COMPLETE':
      return { $case: 'complete', value: {} };
    case 'HEARTBEAT':
      return { $case: 'heartbeat', value: {} };
  }
}
