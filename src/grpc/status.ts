/** BlockJobError → gRPC status with google.rpc details. The one place where anything thrown becomes an answer. */
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Any } from '../../generated/google/protobuf/any.ts';
import { BadRequest, ErrorInfo, PreconditionFailure, RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { catalogue, type Reason } from '../core/catalogue.ts';
import { failureOfCall } from '../core/errno.ts';
import { BlockJobError, type Failure, failure, known } from '../core/errors.ts';

/** Of ErrorInfo: the enum whose values the reasons are, by a name that no other contract has. */
const DOMAIN = 'blockjob.v1.ErrorReason';
/**
 * When to come back after UNAVAILABLE: an agent restarts, and a gateway finds another, in about this time; and what others
 * have used up is looked for again.
 */
const RETRY_SECONDS = 1n;
/** What nobody looked for a file to learn: the kernel says it of any, and it is no bug. */
const OF_SYSTEM: ReadonlySet<Reason> = new Set([
  'ACCESS_DENIED',
  'FILE_TOO_LARGE',
  'LIMIT_REACHED',
  'NO_SPACE',
  'STORAGE_FAILED',
]);
/** What others have used up, and give back. */
const PASSES: ReadonlySet<Reason> = new Set(['TOO_MANY_CALLS', 'TOO_MANY_JOBS', 'TOO_MANY_WATCHERS']);
/** Clients built on grpc-core lose a status whose details pass 8 KB, so no text may be longer than this. */
const LONGEST_TEXT = 1000;

/** A failure as google.rpc.Status: what Job.error holds, and what travels with a refused call. */
export function statusOf(said: Failure): Status {
  const why = known(said);
  const { code } = catalogue[why.reason];
  const metadata = Object.fromEntries(Object.entries(why.metadata).map(([key, value]) => [key, short(value)]));
  const details = [any('ErrorInfo', ErrorInfo.encode({ reason: why.reason, domain: DOMAIN, metadata }).finish())];
  if (why.violations !== undefined) {
    const fieldViolations = why.violations.slice(0, 10).map((one) => ({
      field: one.field,
      description: short(one.text, 300),
      reason: one.reason,
      localizedMessage: undefined,
    }));
    details.push(any('BadRequest', BadRequest.encode({ fieldViolations }).finish()));
  }
  if (code === 'FAILED_PRECONDITION') {
    const subject = why.metadata['job'] ?? why.metadata['disk'] ?? why.metadata['path'] ?? '';
    const violations = [{ type: why.reason, subject: short(subject), description: short(why.text, 300) }];
    details.push(any('PreconditionFailure', PreconditionFailure.encode({ violations }).finish()));
  }
  if (code === 'UNAVAILABLE' || PASSES.has(why.reason)) {
    details.push(any('RetryInfo', RetryInfo.encode({ retryDelay: { seconds: RETRY_SECONDS, nanos: 0 } }).finish()));
  }
  return { code: status[code], message: short(why.text), details };
}

/** What the caller gets for anything that was thrown. A bug gets an id, and the log its stack. */
export function answerTo(error: unknown, log: Logger): StatusObject {
  const id = crypto.randomUUID();
  try {
    if (error instanceof BlockJobError) return answer(error.failure);
    // Which file it is may be what the caller is not to know.
    const ofSystem = failureOfCall(error, '?');
    if (ofSystem !== undefined && OF_SYSTEM.has(ofSystem.reason)) {
      log.warn({ err: error, id }, 'the system says no');
      return answer(ofSystem);
    }
    log.error({ err: error, id }, 'a bug');
  } catch (refusesToBeShown) {
    // The logger writes into errors and calls their getters: a frozen one, or a hostile one, makes it throw.
    log.error({ why: String(refusesToBeShown), id }, 'a bug, with an error that cannot be shown');
  }
  return answer(failure('BUG', { id }));
}

/** The reason that an answer bears, for those who count them. */
export function reasonIn({ details }: Pick<StatusObject, 'details'>): string {
  return details.split(':', 1)[0] ?? '';
}

/** What an error keeps from the caller, for our own log. */
export function hides(error: unknown): Failure | undefined {
  try {
    return error instanceof BlockJobError ? error.hides : undefined;
  } catch {
    // A hostile one does not want to be looked at.
    return undefined;
  }
}

function answer(why: Failure): StatusObject {
  // The status line and the rich status say the same: clients refuse a call's status where they differ.
  const message = short(`${why.reason}: ${why.text}`);
  const rich = { ...statusOf(why), message };
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(Status.encode(rich).finish()));
  return { code: status[catalogue[why.reason].code], details: message, metadata };
}

function any(type: string, value: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/google.rpc.${type}`, value: Buffer.from(value) };
}

/** Cuts by what the text takes in a header, where a byte beyond ASCII takes three. */
function short(text: string, longest = LONGEST_TEXT): string {
  let [taken, kept] = [0, ''];
  for (const character of text) {
    const bytes = Buffer.byteLength(character);
    taken += bytes === 1 ? 1 : 3 * bytes;
    if (taken > longest) return `${kept}…`;
    kept += character;
  }
  return text;
}
