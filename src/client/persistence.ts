/** Repeats a call, at the next address and after a while, for as long as that makes sense. */
import { setTimeout as sleep } from 'node:timers/promises';
import { forTimer } from './durations.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import type { BlockJobError } from './errors.ts';
import type { CallOptions } from './options.ts';

const DEFAULT_PATIENCE_MS = 30_000;
const BACK_OFF_MS = { first: 100, longest: 2000 };

export class Persistence {
  /** On the clock of performance.now(); Infinity if there is none. */
  readonly deadlineMs: number;
  readonly #endpoints: Endpoints;
  readonly #options: CallOptions;
  #failures = 0;
  #failingSince: number | undefined;

  /** The deadline counts from now on. */
  constructor(endpoints: Endpoints, options: CallOptions) {
    this.#endpoints = endpoints;
    this.#options = options;
    // gRPC's servers in Node truncate a longer one to fewer bits, and end the call at once.
    const { timeoutMs } = options;
    this.deadlineMs = timeoutMs === undefined ? Infinity : performance.now() + forTimer(timeoutMs);
  }

  /** The service answers. */
  heard(): void {
    this.#failures = 0;
    this.#failingSince = undefined;
  }

  /** Resolves when it is time for the next attempt; throws the error if it was the last one. */
  async after(error: BlockJobError, endpoint: Endpoint): Promise<void> {
    const { signal, patienceMs = DEFAULT_PATIENCE_MS, onRetry } = this.#options;
    const now = performance.now();
    this.#failingSince ??= now;
    if (!error.mayPass || now - this.#failingSince >= patienceMs) throw error;
    this.#endpoints.leave(endpoint);
    this.#failures += 1;
    const delayMs = this.#delayMs(error);
    if (performance.now() + delayMs >= this.deadlineMs) throw error;
    onRetry?.({ error, address: endpoint.address, delayMs });
    try {
      await sleep(forTimer(delayMs), undefined, { signal });
    } catch (aborted) {
      signal?.throwIfAborted();
      throw aborted;
    }
  }

  /** Another address is asked at once; when all of them have failed it is time to wait. */
  #delayMs({ retryDelayMs = 0 }: BlockJobError): number {
    const { count } = this.#endpoints;
    if (this.#failures % count !== 0) return 0;
    const rounds = this.#failures / count;
    const backOffMs = Math.min(BACK_OFF_MS.first * 2 ** (rounds - 1), BACK_OFF_MS.longest);
    // Many clients come back to a restarted server: not all in the same instant.
    return Math.max(retryDelayMs, backOffMs) * (0.75 + Math.random() / 2);
  }
}
