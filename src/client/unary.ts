/** One call with one answer: repeated if there is no answer. */
import { addAbortListener } from 'node:events';
import { type ClientUnaryCall, Metadata, type ServiceError } from '@grpc/grpc-js';
import { deadlineOf } from './durations.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { BlockJobError, errorOfCall } from './errors.ts';
import type { CallOptions } from './options.ts';
import { Persistence } from './persistence.ts';

export type Rpc<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: { deadline?: Date },
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** A write must be safe to repeat: it has a request_id. */
export async function ask<Request, Response>(
  endpoints: Endpoints,
  kind: 'read' | 'write',
  rpcOf: (endpoint: Endpoint) => Rpc<Request, Response>,
  request: Request,
  options: CallOptions,
): Promise<Response> {
  const persistence = new Persistence(endpoints, options);
  let mayHaveHappened = false;
  for (;;) {
    const endpoint = endpoints.current;
    try {
      await endpoint.tried(options.signal, persistence.deadlineMs);
      return await once(rpcOf(endpoint), request, endpoint.address, persistence.deadlineMs, options.signal);
    } catch (error) {
      if (!(error instanceof BlockJobError)) throw error;
      mayHaveHappened ||= kind === 'write' && error.isLost;
      // Another refusal may have another origin: a gateway that has lost the host, or a host that has lost the VM.
      const isOpen = mayHaveHappened && !error.isRefusalOfRequest;
      await persistence.after(
        isOpen ? new BlockJobError(error, { cause: error.cause, mayHaveHappened }) : error,
        endpoint,
      );
    }
  }
}

async function once<Request, Response>(
  rpc: Rpc<Request, Response>,
  request: Request,
  address: string,
  deadlineMs: number,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  const running = rpc(request, new Metadata(), deadlineOf(deadlineMs), (error, response) => {
    if (error === null) resolve(response);
    else reject(signal?.aborted === true ? signal.reason : errorOfCall(error, address));
  });
  using _leaving = signal && addAbortListener(signal, () => running.cancel());
  return await promise;
}
