/** gRPC status with google.rpc details → BlockJobError: the error of a remote service in the same words. */
import { type ServiceError, status } from '@grpc/grpc-js';
import type { Any } from '../../../generated/google/protobuf/any.ts';
import { BadRequest, ErrorInfo } from '../../../generated/google/rpc/error_details.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import { catalogue, type Reason } from '../../core/catalogue.ts';
import { BlockJobError, type Failure, failure, type Violation } from '../../core/errors.ts';
import { defined } from '../../lib/defined.ts';

/** Job.error, as it travels. */
export function failureOf(rich: Status): Failure {
  const info = detail(rich.details, 'ErrorInfo', ErrorInfo);
  const reason = info?.reason ?? '';
  if (info === undefined || !isReason(reason)) {
    const unknown = failure('REASON_UNKNOWN', { otherReason: reason === '' ? 'none' : reason, said: rich.message });
    return info === undefined ? unknown : { ...unknown, original: Status.encode(rich).finish() };
  }
  const violations = detail(rich.details, 'BadRequest', BadRequest)?.fieldViolations.map(
    (one): Violation => ({
      field: one.field,
      reason: isReason(one.reason) ? one.reason : reason,
      text: one.description,
      metadata: {},
    }),
  );
  const prefix = `${reason}: `;
  return {
    reason,
    text: rich.message.startsWith(prefix) ? rich.message.slice(prefix.length) : rich.message,
    metadata: info.metadata,
    ...defined({ violations }),
  };
}

/** The end of a call. `host` is where it went. Without details it comes from the connection, not from the service. */
export function errorOf(error: ServiceError, host: string): BlockJobError {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const rich = Buffer.isBuffer(bytes) ? decoded(bytes) : undefined;
  if (rich !== undefined && detail(rich.details, 'ErrorInfo', ErrorInfo) !== undefined) {
    const why = failureOf(rich);
    // For any error: the fact that the call may be repeated must not be lost.
    const mayPass = why.reason === 'REASON_UNKNOWN' && error.code === status.UNAVAILABLE;
    const passed = mayPass ? failure('HOST_UNREACHABLE', { host, why: why.text }) : why;
    return new BlockJobError(passed, { cause: error });
  }
  if (isUnknownCall(error)) {
    return new BlockJobError(failure('NOT_IMPLEMENTED', { feature: error.details }), { cause: error });
  }
  const why = error.code === status.DEADLINE_EXCEEDED ? 'it did not answer in time' : error.details;
  return new BlockJobError(failure('HOST_UNREACHABLE', { host, why }), { cause: error });
}

/** Not the service says so, but the library in front of it: the service has no such call. */
export function isUnknownCall({ code, metadata }: ServiceError): boolean {
  return code === status.UNIMPLEMENTED && metadata.get('grpc-status-details-bin').length === 0;
}

function decoded(bytes: Buffer): Status | undefined {
  try {
    return Status.decode(bytes);
  } catch {
    return undefined;
  }
}

function isReason(text: string): text is Reason {
  return Object.hasOwn(catalogue, text);
}

function detail<T>(details: readonly Any[], type: string, message: { decode(bytes: Uint8Array): T }): T | undefined {
  const found = details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`);
  return found && message.decode(found.value);
}
