/** One intended action is done once, however often it is asked for: what each request_id has led to. */
import { createHash } from 'node:crypto';
import { fail } from '../core/errors.ts';
import type { RequestMark } from '../core/journal-entry.ts';
import type { JobLog } from './job-log.ts';

/** A request that may be repeated; '' asks for no protection. */
interface Repeatable {
  readonly requestId: string;
}

export class RequestIds {
  /** What the journals say; jobs that were refused, and then forgotten, have left their ids free. */
  readonly #done = new Map<string, { readonly digest: string; readonly log: JobLog }>();
  readonly #underWay = new Map<string, { readonly digest: string; readonly log: Promise<JobLog> }>();

  /**
   * The job that the request is about: `act` writes the mark down with what it does, unless an earlier request of the
   * same id has done so already. Throws REQUEST_ID_REUSED if that one was another request.
   */
  async once(
    rpc: string,
    request: Repeatable,
    act: (mark: RequestMark | undefined) => Promise<JobLog>,
  ): Promise<JobLog> {
    const { requestId: id } = request;
    if (id === '') return await act(undefined);
    const digest = digestOf(rpc, request);
    const reused = (job: string) => fail('REQUEST_ID_REUSED', { requestId: id, job });
    const done = this.#done.get(id);
    if (done !== undefined && !done.log.refused) {
      return done.digest === digest ? done.log : reused(done.log.job.accepted.job);
    }
    const underWay = this.#underWay.get(id);
    if (underWay !== undefined) return underWay.digest === digest ? await underWay.log : reused('not known yet');
    const log = act({ id, digest });
    this.#underWay.set(id, { digest, log });
    try {
      this.#done.set(id, { digest, log: await log });
      return await log;
    } finally {
      this.#underWay.delete(id);
    }
  }

  /** Takes up what an earlier service wrote down. */
  learn(log: JobLog): void {
    for (const { id, digest } of log.requests) this.#done.set(id, { digest, log });
  }

  /** Of a job whose journal is removed. */
  forget(log: JobLog): void {
    for (const [id, done] of this.#done) if (done.log === log) this.#done.delete(id);
  }
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
