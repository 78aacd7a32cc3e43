/** The requests of callers about a job: its end, or a change. Each is done once, however often it is sent. */
import type { Call } from '../../core/block-jobs.ts';
import { hasEnded } from '../../core/job/job.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import type { AbortRequest, PauseRequest } from '../../core/requests.ts';
import { mustOperate, unknownFor } from '../../core/rights.ts';
import { checkAbort } from '../../core/rules/change.ts';
import { refuseMovedPivot } from '../files/prove-file.ts';
import { refusePivotWithoutRoom } from '../files/room.ts';
import type { JobLog } from '../journal/job-log.ts';
import { findJob } from './find-job.ts';
import type { JobTable, JobTableOptions } from './job-table.ts';
import { refuseMigratingPivot } from './migration.ts';
import { type Change, changeDone, requestChange } from './request-change.ts';
import { endedAs, requestEnd } from './request-end.ts';

interface JobRequestsOptions extends Pick<JobTableOptions, 'machines' | 'mayChange'> {
  readonly jobs: JobTable;
}

interface AskedChange {
  readonly rpc: string;
  readonly request: PauseRequest;
  readonly change: Change;
}

export class JobRequests {
  readonly #options: JobRequestsOptions;

  constructor(options: JobRequestsOptions) {
    this.#options = options;
  }

  /** Resolves when the job has ended; with `returnImmediately` or `recordOnly` when the request is written down. */
  async abort(request: AbortRequest, call: Call): Promise<JobLog> {
    checkAbort(request);
    const { machines } = this.#options;
    const { signal } = call;
    const log = await this.#once('Abort', request, call, async (found, mark) => {
      // Cancelling a job is safe on any host.
      if (request.pivot) {
        await this.#mayChange(found, call);
        await refuseMigratingPivot(found, machines);
        await refuseMovedPivot(found, machines);
        if (!found.job.pivotRequested) await refusePivotWithoutRoom(found.job);
      }
      await requestEnd(found, request, mark);
    });
    if (request.recordOnly === true) return log;
    if (!request.returnImmediately) await log.until(hasEnded, signal);
    if (!request.returnImmediately && !log.ended) signal.throwIfAborted();
    // A caller that asked for a pivot and only looks at the status must not take a failure for success.
    if (request.pivot && log.ended && log.job.state !== 'COMPLETED') throw endedAs(log.job);
    return log;
  }

  /** Resolves when QEMU has made the change. */
  async change({ rpc, request, change }: AskedChange, call: Call): Promise<JobLog> {
    const asked: { at: number | undefined } = { at: undefined };
    const log = await this.#once(rpc, request, call, async (found, mark) => {
      await this.#mayChange(found, call);
      asked.at = await requestChange(found, change, mark);
    });
    // A repeated request waits for the result of the first one.
    const since = asked.at ?? log.revisionOfRequest(request.requestId, call.caller);
    if (since !== undefined) await changeDone(log, change, since, call.signal);
    return log;
  }

  async #mayChange({ job: { accepted } }: JobLog, call: Call): Promise<void> {
    await this.#options.mayChange?.({ name: accepted.domain, uuid: accepted.domainUuid }, call);
  }

  async #once(
    rpc: string,
    request: PauseRequest,
    call: Call,
    act: (log: JobLog, mark: RequestMark | undefined) => Promise<void>,
  ): Promise<JobLog> {
    const log = await this.#options.jobs.requests.once({ rpc, request, call }, async (mark) => {
      const found = await findJob(request.job, call, this.#options);
      mustOperate(call, found.job.accepted.domain, unknownFor(request.job));
      await act(found, mark);
      return found;
    });
    // Also for an earlier request: the caller may have lost its rights since.
    mustOperate(call, log.job.accepted.domain, unknownFor(request.job));
    return log;
  }
}
