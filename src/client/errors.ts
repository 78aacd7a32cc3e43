/** The error of a call: from the service itself, or from the connection to it. */
import { type ServiceError, status } from '@grpc/grpc-js';
import type { ErrorReason } from '../../generated/blockjob/v1/error_reason.ts';
import type { Any } from '../../generated/google/protobuf/any.ts';
import { BadRequest, ErrorInfo, RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { toMs } from './durations.ts';

/** A gRPC code, by its name. */
export type Code = keyof typeof status;

/** The reason of the service; docs/errors.md explains each. */
export type Reason = keyof typeof ErrorReason extends infer Name
  ? Name extends `ERROR_REASON_${infer Short}`
    ? Short
    : never
  : never;

/** One wrong field of a request; all of them are reported together. */
export interface FieldViolation {
  /** As in the contract: `destination.file`. */
  readonly field: string;
  readonly reason: string;
  readonly text: string;
}

export interface ErrorWords {
  readonly code: Code;
  /** '' if the error comes from the connection. A newer service may have reasons that are not listed here. */
  readonly reason: Reason | '' | (string & Record<never, never>);
  /** One sentence for people, without the reason. */
  readonly text: string;
  /** Each variable word of the text, by its name: `{ disk: 'vd0' }`. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  /** When to repeat the call. */
  readonly retryDelayMs: number | undefined;
}

/**
 * The reasons of UNAVAILABLE after which the call may have been carried out, also for calls in progress: of a server
 * that shuts down, and of a gateway that lost the answer of an agent. All other reasons come before any action.
 */
const LOST: ReadonlySet<string> = new Set<Reason>(['DRAINING', 'HOST_UNREACHABLE']);

export class BlockJobError extends Error implements ErrorWords {
  override readonly name = 'BlockJobError';
  readonly code: Code;
  readonly reason: ErrorWords['reason'];
  readonly text: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryDelayMs: number | undefined;
  /**
   * The call was a write without an answer, from the service or from a host behind it: it may have been carried out
   * nevertheless. Look, or repeat it with the same request_id. False if it has changed nothing.
   */
  readonly mayHaveHappened: boolean;

  constructor(words: ErrorWords, options: { cause?: unknown; mayHaveHappened?: boolean } = {}) {
    super(words.reason === '' ? words.text : `${words.reason}: ${words.text}`, options);
    this.code = words.code;
    this.reason = words.reason;
    this.text = words.text;
    this.metadata = words.metadata;
    this.violations = words.violations;
    this.retryDelayMs = words.retryDelayMs;
    this.mayHaveHappened = options.mayHaveHappened ?? false;
  }

  /** The service itself has answered. */
  get isAnswer(): boolean {
    return this.reason !== '';
  }

  /** The cause may pass, or another address may work: no connection, a lost answer, a server that is shutting down. */
  get mayPass(): boolean {
    if (this.code === 'UNAVAILABLE') return true;
    return !this.isAnswer && (this.code === 'INTERNAL' || this.code === 'CANCELLED' || this.code === 'UNKNOWN');
  }

  /** It is not known whether the call was carried out: no answer came back. */
  get isLost(): boolean {
    if (this.isAnswer) return LOST.has(this.reason);
    return this.cause !== undefined && !wasNeverSent(this);
  }

  /** The request itself was refused: no attempt can have been carried out. */
  get isRefusalOfRequest(): boolean {
    return ['REQUEST_ID_REUSED', 'REQUEST_ID_IN_USE'].includes(this.reason) || this.violations.length > 0;
  }

  /** Describes a failure of the connection; the service has not answered. */
  static onTheWay(code: Code, text: string, cause?: unknown): BlockJobError {
    return new BlockJobError(
      { code, reason: '', text, metadata: {}, violations: [], retryDelayMs: undefined },
      { cause },
    );
  }
}

/** Reads a google.rpc.Status: Job.error, or ReclaimResult.error. */
export function errorOfStatus(rich: Status, cause?: unknown): BlockJobError {
  const info = detail(rich.details, 'ErrorInfo', ErrorInfo);
  const reason = info?.reason ?? '';
  const prefix = `${reason}: `;
  const violations = detail(rich.details, 'BadRequest', BadRequest)?.fieldViolations ?? [];
  const words: ErrorWords = {
    code: codeOf(rich.code),
    reason,
    text: reason !== '' && rich.message.startsWith(prefix) ? rich.message.slice(prefix.length) : rich.message,
    metadata: info?.metadata ?? {},
    violations: violations.map((one) => ({ field: one.field, reason: one.reason, text: one.description })),
    retryDelayMs: toMs(detail(rich.details, 'RetryInfo', RetryInfo)?.retryDelay),
  };
  return new BlockJobError(words, { cause });
}

/** Reads the error with which a call ended. */
export function errorOfCall(error: ServiceError, address: string): BlockJobError {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const rich = Buffer.isBuffer(bytes) ? decoded(bytes) : undefined;
  if (rich !== undefined && detail(rich.details, 'ErrorInfo', ErrorInfo) !== undefined) {
    return errorOfStatus(rich, error);
  }
  const code = codeOf(error.code);
  const why = code === 'DEADLINE_EXCEEDED' ? 'it did not answer in time' : withoutChatter(error.details);
  return BlockJobError.onTheWay(code, `${address}: ${why}`, error);
}

/** The request was not sent, because there was no connection. */
function wasNeverSent(error: BlockJobError): boolean {
  const { cause } = error;
  return isServiceError(cause) && /^(No connection established|Name resolution failed)/.test(cause.details);
}

/** The essential part of gRPC's text about a failed connection. */
function withoutChatter(details: string): string {
  return (
    /^No connection established\. Last error: (?:Error: )?([^]*?)\. Resolution note:/.exec(details)?.[1] ?? details
  );
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'metadata' in error && 'details' in error && 'code' in error;
}

function codeOf(code: number): Code {
  const name = status[code];
  return name !== undefined && Object.hasOwn(status, name) ? (name as Code) : 'UNKNOWN';
}

function decoded(bytes: Buffer): Status | undefined {
  try {
    return Status.decode(bytes);
  } catch {
    return undefined;
  }
}

function detail<T>(details: readonly Any[], type: string, message: { decode(bytes: Uint8Array): T }): T | undefined {
  const found = details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`);
  return found && message.decode(found.value);
}
