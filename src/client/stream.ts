/** The messages of one stream, until it ends or breaks. */
import { type ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { deadlineOf, forTimer } from './durations.ts';
import type { Endpoint } from './endpoints.ts';
import { BlockJobError, errorOfCall, isServiceError } from './errors.ts';
import type { CallOptions } from './options.ts';

/** The service sends something every 15 seconds. */
const SILENCE_MS = 35_000;

export interface WatchOptions extends CallOptions {
  /** How long a silent connection counts as working. The service sends something every 15 seconds. */
  readonly silenceMs?: number | undefined;
}

export async function* messages<Response>(
  endpoint: Endpoint,
  open: (metadata: Metadata, options: { deadline?: Date }) => ClientReadableStream<Response>,
  { signal, silenceMs = SILENCE_MS }: WatchOptions,
  deadlineMs: number,
): AsyncGenerator<Response, void, undefined> {
  await endpoint.tried(signal, deadlineMs);
  const stream = open(new Metadata(), deadlineOf(deadlineMs));
  const all = (stream as AsyncIterable<Response>)[Symbol.asyncIterator]();
  let isSilent = false;
  const leave = () => stream.cancel();
  signal?.addEventListener('abort', leave, { once: true });
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
    signal?.removeEventListener('abort', leave);
    stream.cancel();
  }
}
