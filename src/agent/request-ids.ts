/** One intended action is done once, however often it is asked for: what each request_id of a caller has led to. */
import { createHash } from 'node:crypto';
import type { Call } from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import type { RequestMark } from '../core/journal-entry.ts';
import { isReadable } from './find-job.ts';
import type { JobLog } from './job-log.ts';

/** A request that may be repeated; '' asks for no protection. */
interface Repeatable {
  readonly requestId: string;
}

interface Asked {
  readonly rpc: string;
  readonly request: Repeatable;
  readonly call: Call;
}

interface Done {
  readonly digest: string;
  readonly log: JobLog;
}

export class RequestIds {
  /** What the journals say, by caller and id; jobs that were refused, and then forgotten, have left their ids free. */
  readonly #done = new Map<string, Done>();
  readonly #underWay = new Map<string, { readonly digest: string; readonly log: Promise<JobLog> }>();

  /**
   * The job that the request is about: `act` writes the mark down with what it does, unless an earlier request of the
   * same caller and id has done so already. Throws REQUEST_ID_REUSED if that one was another request.
   */
  async once({ rpc, request, call }: Asked, act: (mark: RequestMark | undefined) => Promise<JobLog>): Promise<JobLog> {
    const { requestId: id } = request;
    if (id === '') return await act(undefined);
    const { caller = '' } = call;
    const digest = digestOf(rpc, request);
    const reused = (job: string) => fail('REQUEST_ID_REUSED', { requestId: id, job });
    const done = this.#doneBy(call, id);
    if (done !== undefined) return done.digest === digest ? done.log : reused(done.log.job.accepted.job);
    const key = keyOf(caller, id);
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) return underWay.digest === digest ? await underWay.log : reused('not known yet');
    const log = act({ id, digest, caller });
    this.#underWay.set(key, { digest, log });
    try {
      this.#done.set(key, { digest, log: await log });
      return await log;
    } finally {
      this.#underWay.delete(key);
    }
  }

  /**
   * Its own, or one of which an earlier version has not written down whose it is. What is about a job that the caller
   * may not read, or not any more, tells it nothing.
   */
  #doneBy(call: Call, id: string): Done | undefined {
    const found = [this.#done.get(keyOf(call.caller ?? '', id)), this.#done.get(keyOf(undefined, id))];
    return found.find((done) => done !== undefined && !done.log.refused && isReadable(done.log, call));
  }

  /** Takes up what an earlier service wrote down. */
  learn(log: JobLog): void {
    for (const { id, digest, caller } of log.requests) this.#done.set(keyOf(caller, id), { digest, log });
  }

  /** Of a job whose journal is removed. */
  forget(log: JobLog): void {
    for (const [key, done] of this.#done) if (done.log === log) this.#done.delete(key);
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
