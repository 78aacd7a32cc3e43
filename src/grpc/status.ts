/** BlockJobError → gRPC status with google.rpc details. Every exception becomes an answer here. */
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Any } from '../../generated/google/protobuf/any.ts';
import { BadRequest, ErrorInfo, PreconditionFailure, RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { catalogue, type Reason } from '../core/catalogue.ts';
import { failureOfCall } from '../core/errno.ts';
import { BlockJobError, type Failure, failure, known } from '../core/errors.ts';
import { defined } from '../lib/defined.ts';

/** The domain in ErrorInfo: the enum of the reasons, by its full name, which no other contract has. */
const DOMAIN = 'blockjob.v1.ErrorReason';
const CODES = Object.values(status).filter((one) => typeof one === 'number');
/** When to repeat the call after UNAVAILABLE or a limit: an agent restarts in about this time. */
const RETRY_SECONDS = 1n;
/** The kernel may report these for any file, and none of them is a bug. */
const OF_SYSTEM: ReadonlySet<Reason> = new Set([
  'ACCESS_DENIED',
  'FILE_TOO_LARGE',
  'LIMIT_REACHED',
  'NO_SPACE',
  'STORAGE_FAILED',
]);
/** In place of its path, as the caller may not be allowed to know the file. */
const [PATH, UNNAMED] = ['?', 'a file that this answer may not name'];
/** Limits that others have reached, and that become free again. */
const PASSES: ReadonlySet<Reason> = new Set([
  'TOO_MANY_CALLS',
  'TOO_MANY_JOBS',
  'TOO_MANY_WATCHERS',
  'TOO_MANY_WATCHES',
]);
/** Clients built on grpc-core lose a status whose details exceed 8 KB, so no text may be longer than this. */
const LONGEST_TEXT = 1000;

/** A failure as google.rpc.Status: in Job.error, and with a refused call. */
export function statusOf(said: Failure): Status {
  if (said.original !== undefined) return Status.decode(said.original);
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

/** The caller's answer for any exception. A bug gets an id, and its stack goes to the log. */
export function answerTo(error: unknown, log: Logger): StatusObject {
  const id = crypto.randomUUID();
  try {
    if (error instanceof BlockJobError) return answer(error.failure);
    const ofSystem = failureOfCall(error, PATH);
    if (ofSystem !== undefined && OF_SYSTEM.has(ofSystem.reason)) {
      log.warn({ err: error, id }, 'A system call failed');
      return answer({ reason: ofSystem.reason, text: ofSystem.text.replace(PATH, UNNAMED), metadata: {} });
    }
    log.error({ err: error, id }, 'Internal error: a bug');
  } catch (refusesToBeShown) {
    // The logger writes into errors and calls their getters: a frozen or hostile error makes it throw.
    log.error({ why: String(refusesToBeShown), id }, 'Internal error: a bug, with an error that cannot be shown');
  }
  return answer(failure('BUG', { id }));
}

/** The reason in an answer, for metrics. */
export function reasonIn({ details }: Pick<StatusObject, 'details'>): string {
  return details.split(':', 1)[0] ?? '';
}

/** For our own log: the existing object of which the error says to the caller that it does not exist. */
export function hiddenBy(error: unknown): { readonly hides?: string } {
  try {
    return error instanceof BlockJobError ? defined({ hides: error.hides?.text }) : {};
  } catch {
    // A hostile error may throw here.
    return {};
  }
}

function answer(why: Failure): StatusObject {
  // The status line and the rich status are the same: clients refuse the status of a call if they differ.
  const plain = statusOf(why);
  const message = why.original === undefined ? short(`${why.reason}: ${why.text}`) : plain.message;
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(Status.encode({ ...plain, message }).finish()));
  const code = CODES.find((one) => String(one) === String(plain.code)) ?? status.INTERNAL;
  return { code, details: message, metadata };
}

function any(type: string, value: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/google.rpc.${type}`, value: Buffer.from(value) };
}

/** Cuts a text by its length in a header, where a byte beyond ASCII takes three. */
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
