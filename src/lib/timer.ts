/**
 * A timer for any duration that somebody gave or that was computed. Node's own takes at most 2^31-1 milliseconds, about
 * 24.8 days, and fires at once for a longer one.
 */

/** The longest delay of setTimeout. */
const LONGEST_MS = 2 ** 31 - 1;

export class Timer implements Disposable {
  readonly #work: () => void;
  readonly #endsAt: number;
  #timer: NodeJS.Timeout | undefined;

  /** Infinity for never. Zero or less for as soon as possible. */
  constructor(work: () => void, afterMs: number) {
    this.#work = work;
    this.#endsAt = performance.now() + afterMs;
    this.#arm(afterMs);
  }

  #arm(leftMs: number): void {
    const isLong = leftMs > LONGEST_MS;
    const work = isLong ? () => this.#arm(this.#endsAt - performance.now()) : this.#work;
    this.#timer = setTimeout(work, isLong ? LONGEST_MS : leftMs);
  }

  /** Stops the timer. May be repeated. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Aborted with a TimeoutError when the time is over, as AbortSignal.timeout() does; it does not keep the process alive. */
export function abortAfter(afterMs: number): AbortSignal {
  return AbortSignal.timeout(Math.min(Math.max(0, Math.ceil(afterMs)), LONGEST_MS));
}

/** The value; undefined if it does not come in time, or fails: for optional information. */
export async function inTime<T>(value: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  using _timer = new Timer(() => late.resolve(undefined), timeoutMs);
  return await Promise.race([value.catch(() => undefined), late.promise]);
}
