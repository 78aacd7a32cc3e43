/** Facts of a job that clients often need. */
import { Job_State } from '../../generated/blockjob/v1/job.ts';

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
