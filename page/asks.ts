/**
 * The questions about facts that are in no stream. They are asked at once if a person wants to see the answer, soon after
 * an event, and seldom without a cause. They are not asked often, whatever happens.
 */
import { whyNot } from './reasons.ts';

/** Other clients and the guests change these facts without an event. */
const SELDOM_MS = 15_000;
/** The pause between two rounds, if many jobs end. */
const APART_MS = 2000;
const AFTER_FAILURE_MS = 5000;

export interface AsksOptions<What> {
  readonly seldom: readonly What[];
  /** Returns false while the service is away. */
  readonly mayAsk: () => boolean;
  readonly changed: () => void;
}

export class Asks<What extends string> {
  /** The time of the last answers, and why there are no later ones. Undefined: the answers are complete. */
  outdated: { readonly since: Date; readonly why: string } | undefined;
  readonly #how: Readonly<Record<What, () => Promise<void>>>;
  readonly #options: AsksOptions<What>;
  readonly #due = new Set<What>();
  #isUrgent = false;
  #answered: Date | undefined;
  #nextMs = 0;
  #seldomMs = 0;
  #rung = Promise.withResolvers<void>();

  constructor(how: Readonly<Record<What, () => Promise<void>>>, options: AsksOptions<NoInfer<What>>) {
    this.#how = how;
    this.#options = options;
  }

  /** True after the first round with all answers. */
  get isAnswered(): boolean {
    return this.#answered !== undefined;
  }

  /** Asks without a pause. */
  now(...whats: readonly What[]): void {
    this.#isUrgent = true;
    this.soon(...whats);
  }

  /** Asks after the pause. */
  soon(...whats: readonly What[]): void {
    for (const what of whats) this.#due.add(what);
    this.#rung.resolve();
  }

  /** Does not return. */
  async run(): Promise<never> {
    for (;;) {
      await this.#untilDue();
      const due = [...this.#due];
      this.#due.clear();
      this.#isUrgent = false;
      this.#nextMs = performance.now() + APART_MS;
      try {
        for (const what of due) await this.#how[what]();
        this.#answered = new Date();
        this.outdated = undefined;
      } catch (error) {
        for (const what of due) this.#due.add(what);
        this.#nextMs = performance.now() + AFTER_FAILURE_MS;
        this.outdated = { since: this.#answered ?? new Date(), why: whyNot(error) };
      }
      this.#options.changed();
    }
  }

  async #untilDue(): Promise<void> {
    for (;;) {
      this.#rung = Promise.withResolvers();
      const now = performance.now();
      if (now >= this.#seldomMs) {
        for (const what of this.#options.seldom) this.#due.add(what);
        this.#seldomMs = now + SELDOM_MS;
      }
      const atMs = this.#isUrgent ? now : this.#due.size > 0 ? this.#nextMs : this.#seldomMs;
      const waitMs = this.#options.mayAsk() ? atMs - now : APART_MS;
      if (waitMs <= 0) return;
      const timer = setTimeout(this.#rung.resolve, waitMs);
      await this.#rung.promise;
      clearTimeout(timer);
    }
  }
}
