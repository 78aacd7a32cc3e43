/** One intended action is done once, however often it is asked for: what each request_id of a caller has led to. */
import { createHash } from 'node:crypto';
import type { Call } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import { mayRead } from '../../core/rights.ts';
import { type EndedJob, openedLog } from '../journal/ended-job.ts';
import type { JobLog } from '../journal/job-log.ts';

/** A request that may be repeated; '' asks for no protection. */
interface Repeatable {
  readonly requestId: string;
}

interface RepeatableCall {
  readonly rpc: string;
  readonly request: Repeatable;
  readonly call: Call;
}

interface DoneBefore {
  readonly digest: string;
  readonly log: JobLog | EndedJob;
}

export class RequestIds {
  /** What the journals say, by caller and id; jobs that were refused, and then forgotten, have left their ids free. */
  readonly #done = new Map<string, { readonly digest: string; readonly job: string }>();
  readonly #find: (job: string) => JobLog | EndedJob | undefined;
  readonly #underWay = new Map<string, { readonly digest: string; readonly log: Promise<JobLog> }>();

  /** `find`: a job that is known; of one that has ended its journal is read. */
  constructor(find: (job: string) => JobLog | EndedJob | undefined) {
    this.#find = find;
  }

  /**
   * The job that the request is about: `act` writes the mark down with what it does, unless an earlier request of the
   * same caller and id has done so already. Throws REQUEST_ID_REUSED if that one was another
   * request, REQUEST_ID_IN_USE while that is under way.
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

  /**
   * Its own, or one of which an earlier version has not written down whose it is. What is about a job that the caller
   * may not read, or not any more, tells it nothing.
   */
  #doneBy(call: Call, id: string): DoneBefore | undefined {
    const found = [keyOf(call.caller ?? '', id), keyOf(undefined, id)].flatMap((key): readonly DoneBefore[] => {
      const done = this.#done.get(key);
      if (done === undefined) return [];
      const log = this.#find(done.job);
      return log === undefined ? [] : [{ digest: done.digest, log }];
    });
    return found.find(({ log }) => !log.refused && mayRead(call, log.job));
  }

  /** Takes up what an earlier service wrote down. */
  learn({ requests, job: { accepted } }: JobLog | EndedJob): void {
    for (const { id, digest, caller } of requests) this.#done.set(keyOf(caller, id), { digest, job: accepted.job });
  }

  /** Of a job whose journal is removed. */
  forget({ requests, job: { accepted } }: JobLog | EndedJob): void {
    for (const { id, caller } of requests) {
      if (this.#done.get(keyOf(caller, id))?.job === accepted.job) this.#done.delete(keyOf(caller, id));
    }
  }
}

function keyOf(caller: string | undefined, id: string): string {
  return JSON.stringify([caller ?? null, id]);
}

/** The same for the same call with the same body. What has its default value does not count, as on the wire. */
function digestOf(rpc: string, request: Repeatable): string {
  const canonical = (value: unknown): unknown => {
    if (typeof value === 'bigint') return value === 0n ? undefined : `${value}`;
    if (typeof value !== 'object' || value === null) return value === '' || value === false ? undefined : value;
    if (Array.isArray(value)) return value.length === 0 ? undefined : value.map((one) => canonical(one) ?? null);
    const fields = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(fields.map(([name, field]) => [name, canonical(field)]));
  };
  const { requestId: _id, ...body } = request;
  return createHash('sha256')
    .update(JSON.stringify([rpc, canonical(body)]))
    .digest('base64url');
}
