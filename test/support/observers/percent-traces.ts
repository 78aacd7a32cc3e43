/** The percentage of a job, as one watcher sees it: it never decreases, and is not 100 before READY. */
import { type Job, Job_State } from '../../../generated/blockjob/v1/job.ts';

/** A trace with fewer percentages shows nothing. */
const LEAST = 3;

export class PercentTraces {
  /** The number of traces with several percentages. */
  count = 0;

  /** Begins the trace of a job under one service. It returns what is wrong; '' if nothing is. */
  begin(): (job: Job) => string {
    let last = -1;
    let different = 0;
    return ({ id, state, progress }) => {
      if (progress === undefined) return '';
      const { percent } = progress;
      const isEarly = state === Job_State.STATE_STARTING || state === Job_State.STATE_RUNNING;
      if (percent < last) return `job ${id}: ${percent} % follows ${last} %`;
      if (percent === 100 && isEarly) return `job ${id}: 100 % before READY`;
      if (percent > last) {
        different += 1;
        if (different === LEAST) this.count += 1;
      }
      last = percent;
      return '';
    };
  }
}
