/** The headers of a call, before gRPC sees them. */
import type { IncomingHttpHeaders } from 'node:http2';
import type { Failure } from '../../core/errors.ts';
import { invalidField } from '../../core/rules/rule.ts';

/** As gRPC has it: grpc-js takes other texts for a bug of the server's. */
const TIMEOUT = /^\d{1,8}[HMSmun]$/;
const NO_TIMEOUT = invalidField('grpc-timeout', 'must be one to eight digits, and H, M, S, m, u or n').failure;

/** Undefined: nothing. */
export function wrongIn({ 'grpc-timeout': timeout }: IncomingHttpHeaders): Failure | undefined {
  return timeout === undefined || TIMEOUT.test(String(timeout)) ? undefined : NO_TIMEOUT;
}

/** As HTTP/2 counts. */
export function sizeOf(headers: IncomingHttpHeaders): number {
  return Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length + 32, 0);
}
