/**
 * Refusals in the audit log. Those of one caller have a line each up to a limit; then they are counted, and one line
 * per minute has their number, so that a refused caller cannot fill the disk.
 */
import type { Logger } from 'pino';
import { Timer } from '../lib/timer.ts';

export interface RefusedCaller {
  /** By the caller's name here, or the address that it comes from. */
  readonly who: string;
  /** The result of the call: `refused`, `left`. */
  readonly reason: string;
}

/** For one caller, in one period. */
const MOST_LINES = 10;
const PERIOD_MS = 60_000;
/** All others count as one. Without certificates a caller can use any number of names. */
const MOST_CALLERS = 1000;
const OTHERS = 'others';
const MOST_REASONS = 20;

interface Period {
  count: number;
  readonly beyond: Map<string, number>;
  readonly timer: Timer;
}

export class Refusals implements Disposable {
  readonly #log: Logger;
  readonly #periodMs: number;
  readonly #periods = new Map<string, Period>();
  /** After the end: the lines that may still be written. No timer begins then, because it would keep the process alive. */
  #lastLines: number | undefined;

  constructor(log: Logger, periodMs = PERIOD_MS) {
    this.#log = log;
    this.#periodMs = periodMs;
  }

  /** Writes the line, or counts it. */
  note({ who, reason }: RefusedCaller, write: () => void): void {
    if (this.#lastLines !== undefined) {
      if (this.#lastLines > 0) write();
      this.#lastLines -= 1;
      return;
    }
    const key = this.#periods.has(who) || this.#periods.size < MOST_CALLERS ? who : OTHERS;
    const period = this.#periods.get(key) ?? this.#begin(key);
    period.count += 1;
    if (period.count <= MOST_LINES) return write();
    const isKnown = period.beyond.has(reason) || period.beyond.size < MOST_REASONS;
    const counted = isKnown ? reason : OTHERS;
    period.beyond.set(counted, (period.beyond.get(counted) ?? 0) + 1);
  }

  #begin(who: string): Period {
    const timer = new Timer(() => this.#sumUp(who), this.#periodMs);
    const period = { count: 0, beyond: new Map<string, number>(), timer };
    this.#periods.set(who, period);
    return period;
  }

  #sumUp(who: string): void {
    const period = this.#periods.get(who);
    this.#periods.delete(who);
    period?.timer[Symbol.dispose]();
    if (period === undefined || period.beyond.size === 0) return;
    const more = period.count - MOST_LINES;
    const seconds = this.#periodMs / 1000;
    this.#log.info({ who, more, seconds, reasons: Object.fromEntries(period.beyond) }, 'audit: more were refused');
  }

  /** Logs its counts. A connection that is broken at the end may be refused after it. */
  [Symbol.dispose](): void {
    this.#lastLines ??= MOST_LINES;
    for (const who of this.#periods.keys()) this.#sumUp(who);
  }
}
