/** What a caller may do on which domains: asked by the domain that was found, at the moment when it is acted on. */
import type { Call } from './block-jobs.ts';
import { BlockJobError, type Failure, failure } from './errors.ts';
import { fits } from './pattern.ts';
import type { JobRef } from './requests.ts';

export type Right = 'read' | 'operate';

/** Patterns of the names of domains. Who may operate may read. */
export interface Grant {
  readonly read: readonly string[];
  readonly operate: readonly string[];
}

/** As JSON. It travels with each call from gateway to agent. */
export const LARGEST_GRANT_BYTES = 16 * 1024;

/** As they are now. */
export type Rights = () => Grant;

export function allows({ read, operate }: Grant, right: Right, domain: string): boolean {
  const isOne = (pattern: string) => fits(domain, pattern);
  return operate.some(isOne) || (right === 'read' && read.some(isOne));
}

/** Where no policy was asked, everything. */
export function may({ rights = [] }: Call, right: Right, domain: string): boolean {
  return rights.every((now) => allows(now(), right, domain));
}

/** Throws CALLER_NOT_ALLOWED for who may read the domain, and `unknown`, as if it were not there, for who may not. */
export function mustOperate(call: Call, domain: string, unknown: Failure): void {
  if (!may(call, 'read', domain)) notThere(unknown, call, domain);
  if (!may(call, 'operate', domain)) throw new BlockJobError(notAllowed(call, 'operate', domain));
  call.onMayOperate?.();
}

/**
 * Throws the answer of a thing that is not there. `domain`: whose it is, where it is there and the caller may not read
 * it; that is for our own log alone.
 */
export function notThere(why: Failure, call: Call, domain: string | undefined): never {
  throw new BlockJobError(why, domain === undefined ? {} : { hides: notAllowed(call, 'read', domain) });
}

/** What there is not, where that means nothing. */
export function unknownFor(ref: JobRef): Failure {
  return 'jobId' in ref
    ? failure('JOB_NOT_FOUND', { job: ref.jobId })
    : failure('DOMAIN_NOT_FOUND', { domain: ref.disk.domain });
}

function notAllowed({ caller = '' }: Call, operation: Right, domain: string): Failure {
  return failure('CALLER_NOT_ALLOWED', { caller, operation, domain });
}
