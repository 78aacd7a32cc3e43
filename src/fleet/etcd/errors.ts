// Errors of etcd and of the connection to it, by the conclusion that the caller may draw.
//
//   EtcdError
//    ├─ Refused         etcd answered no: nothing changed; `why` says what an operator or the caller can do
//    ├─ Unreachable     nothing was sent, or a question got no answer: nothing changed, ask again at will
//    └─ OutcomeUnknown  a change was sent and no answer came: it may have happened. Read, never repeat blindly

import { type ServiceError, status } from '@grpc/grpc-js';

/** All errors that this folder throws or rejects with on purpose. */
export class EtcdError extends Error {
  override readonly name: string = 'EtcdError';
}

const ADVICE = {
  'no-space': 'the database is full: compact, defragment, and disarm the alarm',
  denied: 'the user has no role for this key',
  'not-authenticated': 'the name and password, or the certificate, are not accepted',
  'lease-gone': 'the lease has ended',
  compacted: 'that revision has been compacted away',
  other: 'the request was not accepted',
} as const;

export type Refusal = keyof typeof ADVICE;

export class Refused extends EtcdError {
  override readonly name = 'Refused';
  readonly why: Refusal;

  constructor(what: string, why: Refusal, etcdText: string, options?: ErrorOptions) {
    super(`etcd refused ${what}: ${ADVICE[why]} (${etcdText})`, options);
    this.why = why;
  }
}

export class Unreachable extends EtcdError {
  override readonly name = 'Unreachable';

  constructor(what: string, reason: string, options?: ErrorOptions) {
    super(`etcd did not answer ${what}: ${reason}`, options);
  }
}

export class OutcomeUnknown extends EtcdError {
  override readonly name = 'OutcomeUnknown';

  constructor(what: string, reason: string, options?: ErrorOptions) {
    super(`The outcome of ${what} in etcd is unknown: ${reason}`, options);
  }
}

/** As gRPC reports it. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error && 'metadata' in error;
}

/** The codes with which etcd, or the connection to it, leaves the result open. */
const NO_ANSWER: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.UNKNOWN,
  status.INTERNAL,
  status.ABORTED,
]);

/** The reason of etcd's refusal; undefined if it did not answer. Source: etcd api/v3rpc/rpctypes/error.go. */
export function refusalOf({ code, details }: Pick<ServiceError, 'code' | 'details'>): Refusal | undefined {
  if (NO_ANSWER.has(code)) return undefined;
  if (/database space exceeded/.test(details)) return 'no-space';
  if (/required revision has been compacted/.test(details)) return 'compacted';
  if (/requested lease not found/.test(details)) return 'lease-gone';
  if (code === status.PERMISSION_DENIED) return 'denied';
  if (code === status.UNAUTHENTICATED || /authentication failed|user name is empty/.test(details)) {
    return 'not-authenticated';
  }
  return 'other';
}

/** The token is not valid any more: it has expired, or users and roles have changed since. */
export function isStaleToken({ code, details }: Pick<ServiceError, 'code' | 'details'>): boolean {
  return (
    (code === status.UNAUTHENTICATED && /invalid auth token/.test(details)) ||
    /revision of auth store is old|revision in header is old/.test(details)
  );
}
