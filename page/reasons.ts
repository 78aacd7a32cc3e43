/** The reason of a failure, as a word of ErrorReason. Pure. */
import { type Any, anyUnpack } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../generated/es/google/rpc/error_details_pb.js';

/** From the error of a job, or of a domain. */
export function reasonIn(details: readonly Any[]): string {
  for (const detail of details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info !== undefined) return info.reason;
  }
  return '';
}

/** The reason of the service, as a word of ErrorReason; '' if it has not answered. */
export function reasonOf(error: unknown): string {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? '';
}

/** Its text, without the code and the reason before it. */
export function textOf(error: unknown): string {
  return ConnectError.from(error).rawMessage.replace(/^[A-Z_]+: /, '');
}

/** Why there is no answer. */
export function whyNot(error: unknown): string {
  return reasonOf(error) === '' ? 'it does not answer' : textOf(error);
}
