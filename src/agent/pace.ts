/**
 * How fast a job copies, from one look to a later one: so it is known how long `stop` would wait for what is under way. A
 * destination that hangs has no pace.
 */

/** Two looks that are closer tell nothing: what is copied comes in pieces. */
const LEAST_MS = 250;
/** Two that are further apart do not tell how fast it is now. */
const STALE_MS = 2000;

export class Pace {
  #atMs = -Infinity;
  #copiedBytes = 0;
  #leftBytes = 0;
  #bytesPerMs: number | undefined;
  /** Since when there has been nothing left, and nothing copied. */
  #stillSinceMs: number | undefined;

  see({ copiedBytes, remainingBytes }: { readonly copiedBytes: number; readonly remainingBytes: number }): void {
    const nowMs = performance.now();
    const isStill = remainingBytes === 0 && copiedBytes === this.#copiedBytes;
    this.#stillSinceMs = isStill ? (this.#stillSinceMs ?? nowMs) : undefined;
    this.#leftBytes = remainingBytes;
    const overMs = nowMs - this.#atMs;
    if (overMs < LEAST_MS) return;
    this.#bytesPerMs = overMs > STALE_MS ? undefined : Math.max(0, copiedBytes - this.#copiedBytes) / overMs;
    this.#atMs = nowMs;
    this.#copiedBytes = copiedBytes;
  }

  /** Until what may be under way, a buffer at most, is written; undefined: not known yet. */
  underWayMs(bufferBytes: number): number | undefined {
    const underWay = Math.min(this.#leftBytes, bufferBytes);
    if (underWay === 0) return 0;
    return this.#bytesPerMs === undefined ? undefined : underWay / this.#bytesPerMs;
  }

  /** For how long nothing has been left, and nothing copied. */
  get stillMs(): number {
    return this.#stillSinceMs === undefined ? 0 : performance.now() - this.#stillSinceMs;
  }
}
