/** Each intended action is done once, however often it is requested: the results of the request_ids of each caller. */
import { createHash } from 'node:crypto';
import type { Call } from '../../core/block-jobs.ts';
import { canonical } from '../../core/canonical.ts';
import { fail } from '../../core/errors.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import { mayRead } from '../../core/rights.ts';
import { type EndedJob, openedLog } from '../journal/ended-job.ts';
import type { JobLog } from '../journal/job-log.ts';

interface RepeatableCall {
  readonly rpc: string;
  /** '' asks for no protection. */
  readonly request: { readonly requestId: string };
  readonly call: Call;
}

interface DoneBefore {
  readonly digest: string;
  readonly log: JobLog | EndedJob;
}

export class RequestIds {
  /** From the journals, by caller and id. The ids of refused and forgotten jobs are free again. */
  readonly #done = new Map<string, { readonly digest: string; readonly job: string }>();
  readonly #find: (job: string) => JobLog | EndedJob | undefined;
  readonly #underWay = new Map<string, { readonly digest: string; readonly log: Promise<JobLog> }>();

  /** `find`: a known job; the journal of an ended one is read. */
  constructor(find: (job: string) => JobLog | EndedJob | undefined) {
    this.#find = find;
  }

  /**
   * The job of the request. `act` writes the mark down with its action, unless an earlier request of the same caller
   * and id has done so. Throws REQUEST_ID_REUSED if that was a different request, REQUEST_ID_IN_USE while it is in
   * progress.
   */
  async once(
    { rpc, request, call }: RepeatableCall,
    act: (mark: RequestMark | undefined) => Promise<JobLog>,
  ): Promise<JobLog> {
    const { requestId: id } = request;
    if (id === '') return await act(undefined);
    const { caller = '' } = call;
    const digest = digestOf(rpc, request);
    const reused = (job: string) => fail('REQUEST_ID_REUSED', { requestId: id, job });
    const done = this.#doneBy(call, id);
    if (done !== undefined) {
      return done.digest === digest ? await openedLog(done.log) : reused(done.log.job.accepted.job);
    }
    const key = keyOf(caller, id);
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined)
      return underWay.digest === digest ? await underWay.log : fail('REQUEST_ID_IN_USE', { requestId: id });
    const log = act({ id, digest, caller });
    this.#underWay.set(key, { digest, log });
    try {
      this.#done.set(key, { digest, job: (await log).job.accepted.job });
      return await log;
    } finally {
      this.#underWay.delete(key);
    }
  }

  /** The caller's own, or an earlier version's. A caller learns nothing about a job that it may not read. */
  #doneBy(call: Call, id: string): DoneBefore | undefined {
    const found = [keyOf(call.caller ?? '', id), keyOf(undefined, id)].flatMap((key): readonly DoneBefore[] => {
      const done = this.#done.get(key);
      if (done === undefined) return [];
      const log = this.#find(done.job);
      return log === undefined ? [] : [{ digest: done.digest, log }];
    });
    return found.find(({ log }) => !log.refused && mayRead(call, log.job));
  }

  /** Takes up the ids that an earlier service wrote down. */
  learn({ requests, job: { accepted } }: JobLog | EndedJob): void {
    for (const { id, digest, caller } of requests) this.#done.set(keyOf(caller, id), { digest, job: accepted.job });
  }

  /** For a job whose journal is removed. */
  forget({ requests, job: { accepted } }: JobLog | EndedJob): void {
    for (const { id, caller } of requests) {
      if (this.#done.get(keyOf(caller, id))?.job === accepted.job) this.#done.delete(keyOf(caller, id));
    }
  }
}

function keyOf(caller: string | undefined, id: string): string {
  return JSON.stringify([caller ?? null, id]);
}

/** The same for the same call with the same body. Default values do not count, as on the wire. */
function digestOf(rpc: string, request: RepeatableCall['request']): string {
  const { requestId: _id, ...body } = request;
  return createHash('sha256')
    .update(JSON.stringify([rpc, canonical(body)]))
    .digest('base64url');
}
