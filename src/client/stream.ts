/** The messages of a watch: of one stream after another, as the service and the network allow. */
import { addAbortListener } from 'node:events';
import { type ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { deadlineOf, forTimer } from './durations.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { BlockJobError, errorOfCall, isServiceError } from './errors.ts';
import type { CallOptions } from './options.ts';
import { Persistence } from './persistence.ts';

/** The service sends something every 15 seconds. */
const SILENCE_MS = 35_000;

export interface WatchOptions extends CallOptions {
  /** How long a silent connection counts as working. The service sends something every 15 seconds. */
  readonly silenceMs?: number | undefined;
}

type Open<Response> = (metadata: Metadata, options: { deadline?: Date }) => ClientReadableStream<Response>;

/** `openAt` is called for each stream, with the request to go on with. Ends when a stream ends. */
export async function* messages<Response>(
  endpoints: Endpoints,
  openAt: (endpoint: Endpoint) => Open<Response>,
  options: WatchOptions,
): AsyncGenerator<Response, void, undefined> {
  const persistence = new Persistence(endpoints, options);
  for (;;) {
    const endpoint = endpoints.current;
    try {
      for await (const message of messagesOf(endpoint, openAt(endpoint), options, persistence.deadlineMs)) {
        persistence.heard();
        yield message;
      }
      return;
    } catch (error) {
      if (!(error instanceof BlockJobError)) throw error;
      await persistence.after(error, endpoint);
    }
  }
}

/** Until it ends or breaks. */
async function* messagesOf<Response>(
  endpoint: Endpoint,
  open: Open<Response>,
  { signal, silenceMs = SILENCE_MS }: WatchOptions,
  deadlineMs: number,
): AsyncGenerator<Response, void, undefined> {
  await endpoint.tried(signal, deadlineMs);
  const stream = open(new Metadata(), deadlineOf(deadlineMs));
  const all = (stream as AsyncIterable<Response>)[Symbol.asyncIterator]();
  let isSilent = false;
  using _leaving = signal && addAbortListener(signal, () => stream.cancel());
  try {
    for (;;) {
      // Runs while the client waits for a message, not while the reader is slow.
      const timer = setTimeout(() => {
        isSilent = true;
        stream.cancel();
      }, forTimer(silenceMs));
      const message = await all.next().finally(() => clearTimeout(timer));
      if (message.done === true) return;
      yield message.value;
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (isSilent) throw BlockJobError.onTheWay('UNAVAILABLE', `${endpoint.address}: silent for ${silenceMs} ms`);
    throw isServiceError(error) ? errorOfCall(error, endpoint.address) : error;
  } finally {
    stream.cancel();
  }
}
