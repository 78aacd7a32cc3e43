/** Async iterable → gRPC stream. Back-pressure is here and nowhere else. */
import { once } from 'node:events';
import type { ServerWritableStream } from '@grpc/grpc-js';

/** Writes until the end, or until the signal; then the source has to finish (its `finally` blocks run). */
export async function writeAll<Request, Response>(
  call: ServerWritableStream<Request, Response>,
  source: AsyncIterable<Response>,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of source) {
    if (signal.aborted) return;
    // A slow reader stops the source here: one message waits, not a queue.
    if (!call.write(message)) await drained(call, signal);
  }
}

async function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  try {
    await once(call, 'drain', { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
