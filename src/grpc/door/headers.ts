/** The headers of a call before gRPC sees them, and those of its answer after. */
import type {
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
  ServerStreamResponseOptions,
} from 'node:http2';
import type { Failure } from '../../core/errors.ts';
import { invalidField } from '../../core/rules/rule.ts';

/** The format of gRPC: grpc-js takes other texts for a bug of the server. */
const TIMEOUT = /^\d{1,8}[HMSmun]$/;
const NO_TIMEOUT = invalidField('grpc-timeout', 'must be one to eight digits, and H, M, S, m, u or n').failure;

/** Undefined if there is none. */
export function wrongIn({ 'grpc-timeout': timeout }: IncomingHttpHeaders): Failure | undefined {
  return timeout === undefined || TIMEOUT.test(String(timeout)) ? undefined : NO_TIMEOUT;
}

/** The text of grpc-js, with INTERNAL, for a request that does not fit its grpc-encoding. */
const NOT_UNPACKED = encodeURI('Failed to decompress message');
const WRONGLY_PACKED = invalidField('message', 'cannot be unpacked as its grpc-encoding says').failure;

/** Replaces the answer if grpc-js reports an error of the caller as one of the server. `told` makes the new answer. */
export function correct(stream: ServerHttp2Stream, told: (fault: Failure) => OutgoingHttpHeaders): void {
  const respond = stream.respond.bind(stream);
  stream.respond = (answer?: OutgoingHttpHeaders, options?: ServerStreamResponseOptions) => {
    respond(answer?.['grpc-message'] === NOT_UNPACKED ? told(WRONGLY_PACKED) : answer, options);
  };
}

/** As HTTP/2 counts. */
export function sizeOf(headers: IncomingHttpHeaders): number {
  return Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length + 32, 0);
}
