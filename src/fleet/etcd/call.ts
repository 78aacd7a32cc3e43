/** Calls of gRPC as promises; and conversations, which end on request. */
import { addAbortListener } from 'node:events';
import type { Client, ClientDuplexStream, Metadata, MethodDefinition, ServiceError } from '@grpc/grpc-js';
import { dateAt } from '../../lib/clock.ts';
import { type EtcdError, Refused, refusalOf, Unreachable } from './errors.ts';

/** Rejects with gRPC's ServiceError, or with Unreachable if it was not sent. `by` is on the clock of performance.now(). */
export async function callUnary<Request, Response>(
  client: Client,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Response>,
  request: Request,
  metadata: Metadata,
  by: number,
  signal: AbortSignal,
): Promise<Response> {
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  const options = { deadline: dateAt(by) };
  const done = (error: ServiceError | null, response?: Response) => {
    if (response === undefined) reject(error ?? new TypeError(`${path} had no answer`));
    else resolve(response);
  };
  const call = orNotSent(path, () =>
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, options, done),
  );
  using _leaving = addAbortListener(signal, () => call.cancel());
  return await promise;
}

/** A channel that was closed meanwhile throws. */
function orNotSent<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Unreachable(what, 'the connection was given up', { cause: error });
  }
}

/** Called in the order of the messages; nothing comes after `over`, nor after end(). */
export interface Hooks<Response> {
  readonly answered: (response: Response) => void;
  readonly over: (why: EtcdError) => void;
}

/** A stream in both directions. */
export class Conversation<Request, Response> {
  readonly #stream: ClientDuplexStream<Request, Response>;
  #hooks: Hooks<Response> | undefined;

  constructor(client: Client, method: MethodDefinition<Request, Response>, metadata: Metadata, hooks: Hooks<Response>) {
    const { path, requestSerialize, responseDeserialize } = method;
    this.#hooks = hooks;
    this.#stream = orNotSent(path, () =>
      client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata),
    );
    this.#stream
      .on('data', (response: Response) => this.#hooks?.answered(response))
      .on('error', (error: ServiceError) => this.#over(reasonOf(path, error)))
      .on('end', () => this.#over(new Unreachable(path, 'etcd has ended the stream')));
  }

  send(request: Request): void {
    if (this.#hooks !== undefined) this.#stream.write(request);
  }

  /** May be repeated. */
  end(): void {
    this.#hooks = undefined;
    this.#stream.cancel();
  }

  #over(why: EtcdError): void {
    const hooks = this.#hooks;
    this.end();
    hooks?.over(why);
  }
}

/** Refused, or Unreachable. */
export function reasonOf(what: string, error: ServiceError): EtcdError {
  const why = refusalOf(error);
  if (why !== undefined) return new Refused(what, why, error.details, { cause: error });
  return new Unreachable(what, error.details, { cause: error });
}
