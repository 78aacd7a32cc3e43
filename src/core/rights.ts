/** The rights of a caller on domains. They are checked for the domain that was found, at the moment of the access. */
import type { Call } from './block-jobs.ts';
import { BlockJobError, type Failure, failure } from './errors.ts';
import { grants, type Right } from './grant.ts';
import type { JobRef } from './requests.ts';

/** All rights, for a service without a policy. */
export function may({ rights = [] }: Call, right: Right, domain: string): boolean {
  return rights.every((now) => grants(now(), right, domain));
}

export function mayRead(call: Call, { accepted }: { readonly accepted: { readonly domain: string } }): boolean {
  return may(call, 'read', accepted.domain);
}

/** Throws CALLER_NOT_ALLOWED if the caller may read but not operate the domain, and `unknown` if it may not read it. */
export function mustOperate(call: Call, domain: string, unknown: Failure): void {
  if (!may(call, 'read', domain)) notThere(unknown, call, domain);
  if (!may(call, 'operate', domain)) throw new BlockJobError(notAllowed(call, 'operate', domain));
  call.onMayOperate?.();
}

/**
 * Throws the answer for an object that does not exist. `domain`: its domain if it exists and the caller may not read
 * it; that is for our own log alone.
 */
export function notThere(why: Failure, call: Call, domain: string | undefined): never {
  throw new BlockJobError(why, domain === undefined ? {} : { hides: notAllowed(call, 'read', domain) });
}

/** The name of an object that does not exist, in place of one that would be meaningless. */
export function unknownFor(ref: JobRef): Failure {
  return 'jobId' in ref
    ? failure('JOB_NOT_FOUND', { job: ref.jobId })
    : failure('DOMAIN_NOT_FOUND', { domain: ref.disk.domain });
}

function notAllowed({ caller = '' }: Call, operation: Right, domain: string): Failure {
  return failure('CALLER_NOT_ALLOWED', { caller, operation, domain });
}
