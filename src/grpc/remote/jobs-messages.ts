/** Translates WatchJobs for a gateway: its request to an agent, and the agent's messages. */
import type { WatchJobsRequest, WatchJobsResponse } from '../../../generated/blockjob/v1/block_job_service.ts';
import type { Requests } from '../../core/block-jobs.ts';
import { failure } from '../../core/errors.ts';
import type { WatchFilter } from '../../core/job/labels.ts';
import type { JobsMessage } from '../../core/jobs-message.ts';
import { fromMs } from '../durations.ts';
import { positionsOf, ResumeTokens } from '../resume-token.ts';
import { toJobEvent } from './answers.ts';
import { failureOf } from './failure.ts';

export function fromWatchJobsRequest(request: Requests['watchJobs']): WatchJobsRequest {
  const { domain, labels, createdBy, activeOnly, progressIntervalMs } = request;
  return {
    domain,
    labelFilter: { ...labels },
    createdByFilter: createdBy ?? '',
    // The token of a heartbeat has all positions.
    resumeToken: new ResumeTokens(request).after({ is: 'HEARTBEAT', positions: new Map() }),
    progressInterval: progressIntervalMs === undefined ? undefined : fromMs(progressIntervalMs),
    activeOnly: activeOnly ?? false,
  };
}

/** `host` is the sender. Returns undefined for a message of a newer version. */
export function toJobsMessage(
  { about, resumeToken }: WatchJobsResponse,
  host: string,
  filter: WatchFilter,
): JobsMessage | undefined {
  const positions = positionsOf(resumeToken, filter);
  const position = positions.get(host);
  switch (about?.$case) {
    case 'event': {
      const event = toJobEvent(about.value);
      const isPlaced = event.type !== 'SNAPSHOT' && event.type !== 'PROGRESS';
      return { is: 'EVENT', host, event, ...(isPlaced && position !== undefined && { position }) };
    }
    case 'snapshot':
      return { is: 'SNAPSHOT', host, lost: about.value.compacted ? about.value.text : undefined };
    case 'synced':
      return position && { is: 'SYNCED', host, starting: about.value.startingJobIds, position };
    case 'unreachable': {
      const { error } = about.value;
      const why = error === undefined ? failure('HOST_UNREACHABLE', { host, why: 'it says so' }) : failureOf(error);
      return { is: 'UNREACHABLE', host, why };
    }
    case 'complete':
      return { is: 'COMPLETE' };
    case 'heartbeat':
      return { is: 'HEARTBEAT', positions };
    case undefined:
      return undefined;
  }
}
