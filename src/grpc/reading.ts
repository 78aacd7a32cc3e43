/** The methods of the contract that change nothing: message → core words → BlockJobs → message. */
import {
  type GetInfoRequest,
  GetInfoResponse,
  type ListJobsRequest,
  type ListJobsResponse,
  type ListLeftoversRequest,
  type ListLeftoversResponse,
  type WatchJobRequest,
  type WatchJobsRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type {
  CheckOperationRequest,
  CheckOperationResponse,
  GetDomainRequest,
  GetDomainResponse,
  ListDomainsRequest,
  ListDomainsResponse,
} from '../../generated/blockjob/v1/domain_service.ts';
import { type GetServerInfoResponse, ServerMode } from '../../generated/blockjob/v1/server_service.ts';
import type { BlockJobs, Call } from '../core/block-jobs.ts';
import type { JobView } from '../core/job/job-view.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { eachOf, Pushed } from '../lib/pushed.ts';
import { fromForeignJob, fromJobView, fromLeftover } from './answers.ts';
import { fromDomain } from './domain-answers.ts';
import { toEnum } from './enums.ts';
import { encodedJobs, encodeEvent, toWatchJobsRequest } from './jobs-messages.ts';
import { toCheckOperationRequest, toJobRef, toListJobsRequest, toWatchRequest } from './requests.ts';
import { statusOf } from './status.ts';

const ENCODED = new WeakMap<JobView, Uint8Array>();

function encodedInfo(view: JobView): Uint8Array {
  const known = ENCODED.get(view);
  if (known !== undefined) return known;
  const encoded = GetInfoResponse.encode({ job: fromJobView(view) }).finish();
  ENCODED.set(view, encoded);
  return encoded;
}

/** For calls through gRPC (handlers), or through Connect (connect). */
export function readingOf(jobs: BlockJobs) {
  return {
    /** Encoded already: each view for all its callers. */
    getInfo: async ({ job }: GetInfoRequest, call: Call): Promise<Uint8Array> =>
      encodedInfo(await jobs.getInfo(toJobRef(job), call)),
    listJobs: async (request: ListJobsRequest, call: Call): Promise<ListJobsResponse> => {
      const { items, ...page } = await jobs.listJobs(toListJobsRequest(request), call);
      return {
        jobs: items.map(fromJobView),
        nextPageToken: page.nextPageToken,
        unreachableHosts: [...page.unreachableHosts],
        foreignJobs: page.foreignJobs.map(fromForeignJob),
        unreachableDomains: [...page.unreachableDomains],
      };
    },
    /** Encoded already: each event for all its watchers. */
    watchJob: (request: WatchJobRequest, call: Call): AsyncIterable<Uint8Array> =>
      new Pushed((take) =>
        eachOf(jobs.watch(toWatchRequest(request), call), (event) => take(event.encoded(encodeEvent))),
      ),
    watchJobs: (request: WatchJobsRequest, call: Call): AsyncIterable<Uint8Array> =>
      encodedJobs(jobs, toWatchJobsRequest(request), call),
    listLeftovers: async (request: ListLeftoversRequest, call: Call): Promise<ListLeftoversResponse> => {
      const { items, nextPageToken, unreachableHosts } = await jobs.listLeftovers(request, call);
      return { leftovers: items.map(fromLeftover), nextPageToken, unreachableHosts: [...unreachableHosts] };
    },
    listDomains: async (request: ListDomainsRequest, call: Call): Promise<ListDomainsResponse> => {
      const { items, nextPageToken, unreachableHosts } = await jobs.listDomains(request, call);
      const domains = items.map((domain) => fromDomain(domain));
      return { domains, nextPageToken, unreachableHosts: [...unreachableHosts] };
    },
    getDomain: async (request: GetDomainRequest, call: Call): Promise<GetDomainResponse> => {
      const { domain, disks } = await jobs.getDomain(request.domain, call);
      return { domain: fromDomain(domain, disks) };
    },
    checkOperation: async (request: CheckOperationRequest, call: Call): Promise<CheckOperationResponse> => {
      const { reasons, blocking } = await jobs.checkOperation(toCheckOperationRequest(request), call);
      return { allowed: reasons.length === 0, reasons: reasons.map(statusOf), blockingJobs: blocking.map(fromJobView) };
    },
  };
}

/** The facts about this server, for this caller. */
export function serverInfoFor(caller: string | undefined, info: ServerInfo): GetServerInfoResponse {
  const mode: ServerMode = toEnum(ServerMode, 'SERVER_MODE', info.mode);
  return { server: { ...info, mode, caller: caller ?? '' } };
}
