/**
 * The watch of all jobs of one host, from its agent. It is opened again after the last position while somebody listens.
 */
import type { BlockJobs, Call } from '../../core/block-jobs.ts';
import { BlockJobError, failure } from '../../core/errors.ts';
import { type JobsMessage, type Position, positionsIn } from '../../core/jobs-message.ts';
import type { WatchJobsRequest } from '../../core/requests.ts';
import { pause, retryInMs } from '../etcd/back-off.ts';

export interface AgentJobs {
  readonly host: string;
  /** Throws if the agent cannot be found. */
  readonly agentNow: () => Pick<BlockJobs, 'watchJobs'>;
}

/** Ends with the signal of the call. Each time that it is cut off, it says so, and tries again. */
export async function* agentJobs(
  { host, agentNow }: AgentJobs,
  request: Omit<WatchJobsRequest, 'positions'> & { readonly after: Position | undefined },
  call: Call,
): AsyncGenerator<JobsMessage> {
  const { signal } = call;
  let { after } = request;
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const positions = new Map(after === undefined ? [] : [[host, after]]);
      for await (const message of agentNow().watchJobs({ ...request, positions }, call)) {
        after = positionsIn(message).get(host) ?? after;
        failures = 0;
        if (message.is !== 'COMPLETE') yield message;
      }
      if (signal.aborted) return;
      yield { is: 'UNREACHABLE', host, why: failure('HOST_UNREACHABLE', { host, why: 'its watch has ended' }) };
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof BlockJobError)) throw error;
      yield { is: 'UNREACHABLE', host, why: error.failure };
    }
    // Many watchers return to an agent that was restarted, but not all at the same instant.
    await pause(retryInMs(failures), signal);
  }
}
