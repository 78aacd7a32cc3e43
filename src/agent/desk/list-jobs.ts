/** The jobs of this host, page by page, and on the first page its foreign jobs: those that the caller may read. */
import type { Call, JobsPage } from '../../core/block-jobs.ts';
import { failure } from '../../core/errors.ts';
import type { JobState } from '../../core/job/job.ts';
import { hasLabels } from '../../core/job/labels.ts';
import type { ListJobsRequest } from '../../core/requests.ts';
import { mayRead, notThere } from '../../core/rights.ts';
import { BY_AGE, page, stateFilter } from '../../core/rules/list.ts';
import type { JobsKnown } from '../job/find-job.ts';
import type { EndedJob } from '../journal/ended-job.ts';
import type { JobLog } from '../journal/job-log.ts';
import { type ForeignSite, foreignJobs } from './foreign-jobs.ts';
import type { JobViews } from './job-views.ts';

/** Newest first. Throws DOMAIN_NOT_FOUND for a domain that does not exist and never had a job. */
export async function listJobs(
  request: ListJobsRequest,
  call: Call,
  site: JobsKnown & ForeignSite & { readonly views: JobViews },
): Promise<JobsPage> {
  const { jobs, machines, views } = site;
  const { domain } = request;
  const states = stateFilter(request);
  await jobs.complete();
  const machine = domain === '' ? undefined : machines.find(domain, call);
  const uuid = machine?.uuid ?? domain;
  const isOfDomain = ({ job: { accepted } }: JobLog | EndedJob) =>
    domain === '' || accepted.domain === domain || accepted.domainUuid === uuid;
  const ofDomain = jobs.known.newestFirst.filter(isOfDomain);
  const readable = ofDomain.filter((log) => mayRead(call, log.job));
  if (domain !== '' && machine === undefined && readable.length === 0) {
    const hidden = machines.nameOf(domain) ?? ofDomain[0]?.job.accepted.domain;
    notThere(failure('DOMAIN_NOT_FOUND', { domain }), call, hidden);
  }
  const isState = (state: JobState) => states.size === 0 || states.has(state);
  const wanted = readable.filter(({ job }) => isState(job.state) && hasLabels(job.accepted, request));
  const { items: logs, nextPageToken } = page(wanted, BY_AGE, request);
  const [items, foreign] = await Promise.all([
    views.now(await jobs.known.openAll(logs)),
    foreignJobs(request, call, site),
  ]);
  return { items, nextPageToken, unreachableHosts: [], ...foreign };
}
