/** The rules of WatchJobs that need nothing but the request. */
import type { WatchJobsRequest } from '../requests.ts';
import { labelRules } from './labels.ts';
import { progressIntervalMs } from './list.ts';
import { throwIfAny } from './rule.ts';

/** How often the progress of a job is sent. Throws all that is wrong with the request. */
export function parseWatchJobs(request: WatchJobsRequest): number {
  throwIfAny(labelRules('label_filter', request.labels));
  return progressIntervalMs(request);
}
