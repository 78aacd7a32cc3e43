/**
 * Measures how long the service kept the guest waiting. Each run of the service keeps the limits of docs/pauses.md by
 * itself. Pauses by other programs do not count.
 */
import type { Admin } from '../support/real-qemu/qemu.ts';
import { WrongOutcome } from './wrong.ts';

/**
 * The limit of a hold, or of a command that waits for storage, and the time to break a connection and to notice that.
 */
export const BOUND_MS = 12_000;

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Spans of time. The end of the last one may not be known yet. */
export class Spans {
  readonly #spans: { fromMs: number; toMs: number }[] = [];

  /** Begins a span now. The returned function ends it. */
  open(): () => void {
    const span = { fromMs: Date.now(), toMs: Infinity };
    this.#spans.push(span);
    return () => {
      span.toMs = Date.now();
    };
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    const close = this.open();
    try {
      return await work();
    } finally {
      close();
    }
  }

  add(span: Span): void {
    this.#spans.push({ ...span });
  }

  within({ fromMs, toMs }: Span): readonly Span[] {
    return this.#spans
      .map((span) => ({ fromMs: Math.max(span.fromMs, fromMs), toMs: Math.min(span.toMs, toMs) }))
      .filter((span) => span.toMs > span.fromMs);
  }
}

/** The part of the span that none of the others covers. */
export function uncovered(span: Span, others: readonly Span[]): number {
  let left = 0;
  let { fromMs } = span;
  for (const other of others.toSorted((a, b) => a.fromMs - b.fromMs)) {
    left += Math.max(0, Math.min(other.fromMs, span.toMs) - fromMs);
    fromMs = Math.max(fromMs, other.toMs);
  }
  return left + Math.max(0, span.toMs - fromMs);
}

export class Waits {
  /** The spans with a running service. */
  readonly lives = new Spans();
  /** The spans in which another client kept the guest or its disk waiting. */
  readonly others = new Spans();
  readonly #admin: Admin;
  /** The number of events that have been checked. */
  #seen = 0;
  #stoppedMs: number | undefined;
  #longestMs = 0;

  constructor(admin: Admin) {
    this.#admin = admin;
  }

  /** The longest time that the CPUs of the guest were stopped, or a disk waited, in one run of the service. */
  get longestMs(): number {
    return this.#longestMs;
  }

  check(what: string, span: Span): void {
    for (const life of this.lives.within(span)) {
      const waitedMs = uncovered(life, this.others.within(life));
      this.#longestMs = Math.max(this.#longestMs, waitedMs);
      if (waitedMs > BOUND_MS) {
        const since = new Date(life.fromMs).toISOString();
        throw new WrongOutcome(`${what} for ${Math.round(waitedMs)} ms, since ${since}, under a service that lives`);
      }
    }
  }

  /** Checks all pauses that QEMU has reported since the last check, and the one that lasts. */
  checkPauses(): void {
    const events = this.#admin.events.slice(this.#seen);
    this.#seen += events.length;
    for (const { event, timeMs } of events) {
      if (event === 'STOP') this.#stoppedMs ??= timeMs;
      if (event !== 'RESUME' || this.#stoppedMs === undefined) continue;
      this.check('the guest was paused', { fromMs: this.#stoppedMs, toMs: timeMs });
      this.#stoppedMs = undefined;
    }
    if (this.#stoppedMs !== undefined) this.check('the guest is paused', { fromMs: this.#stoppedMs, toMs: Date.now() });
  }
}
