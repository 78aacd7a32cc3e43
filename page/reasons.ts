/** The reason of a failure, as a word of ErrorReason. Pure. */
import { type Any, anyUnpack } from '@bufbuild/protobuf/wkt';
import { ErrorInfoSchema } from '../generated/es/google/rpc/error_details_pb.js';

/** From the error of a job, or of a domain. */
export function reasonIn(details: readonly Any[]): string {
  for (const detail of details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info !== undefined) return info.reason;
  }
  return '';
}
