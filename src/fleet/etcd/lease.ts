// A lease that is kept alive.
//
//   granted ──► kept: each third of its time a renewal is sent and must be answered within another third; if
//                     not, another member is asked, after a pause
//          ──► gone:  etcd says that there is no such lease. Never concluded from silence: an etcd that was away
//                     gives every lease its full time again when it is back
//
// `certainForMs` is the effect of silence: a renewal counts from the moment of its sending, on a clock that nobody
// sets, so the lease ends here before it ends in etcd.

import { type LeaseKeepAliveResponse, LeaseService } from '../../../generated/etcd/etcd.ts';
import { Wake } from '../../lib/wake.ts';
import { pause, retryInMs } from './back-off.ts';
import type { Etcd } from './client.ts';
import { EtcdError, Unreachable } from './errors.ts';

export interface LeaseHooks {
  /** Once: etcd does not have this lease any more. */
  readonly gone: () => void;
  /** For the log: a renewal failed, after so many failures in a row; it continues. */
  readonly trouble: (why: EtcdError, failures: number) => void;
}

export class Lease implements AsyncDisposable {
  readonly id: bigint;
  readonly #etcd: Etcd;
  readonly #hooks: LeaseHooks;
  readonly #ttlMs: number;
  readonly #wake = new Wake();
  readonly #closing = new AbortController();
  readonly #kept: Promise<void>;
  #certainUntil: number;
  #gone = false;

  private constructor(etcd: Etcd, id: bigint, ttlMs: number, grantedAt: number, hooks: LeaseHooks) {
    this.id = id;
    this.#etcd = etcd;
    this.#hooks = hooks;
    this.#ttlMs = ttlMs;
    this.#certainUntil = grantedAt + ttlMs;
    this.#kept = this.#keep();
  }

  static async grant(etcd: Etcd, ttlSeconds: number, hooks: LeaseHooks, signal: AbortSignal): Promise<Lease> {
    const sentAt = performance.now();
    const granted = await etcd.grantLease(ttlSeconds, { signal });
    return new Lease(etcd, granted.id, granted.ttlSeconds * 1000, sentAt, hooks);
  }

  /** The lease certainly lives for so many milliseconds from now, without any renewal. 0 or less: it is not known. */
  get certainForMs(): number {
    return this.#gone ? 0 : this.#certainUntil - performance.now();
  }

  /** Ends it at once, and deletes its keys. Rejects if etcd does not answer; then it ends when its time is over. */
  async revoke(timeoutMs: number): Promise<void> {
    await this[Symbol.asyncDispose]();
    await this.#etcd.revokeLease(this.id, { timeoutMs });
  }

  /** Stops renewing it: it ends when its time is over. May be repeated. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#kept;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    const progress = { failures: 0 };
    while (!signal.aborted && !this.#gone) {
      try {
        await this.#converse(progress);
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        if (signal.aborted) return;
        this.#hooks.trouble(error, progress.failures);
        await pause(retryInMs(progress.failures++, this.#ttlMs / 6), signal);
      }
    }
  }

  /** Renews over one stream until the lease is gone or closed. Rejects if the stream fails. */
  async #converse(progress: { failures: number }): Promise<void> {
    const answers: LeaseKeepAliveResponse[] = [];
    const ends: EtcdError[] = [];
    const hooks = {
      answered: (answer: LeaseKeepAliveResponse) => {
        answers.push(answer);
        this.#wake.notify();
      },
      over: (why: EtcdError) => {
        ends.push(why);
        this.#wake.notify();
      },
    };
    const thirdMs = this.#ttlMs / 3;
    const options = { timeoutMs: thirdMs, signal: this.#closing.signal };
    const opened = await this.#etcd.open('a lease', LeaseService.leaseKeepAlive, hooks, options);
    try {
      while (!this.#closing.signal.aborted) {
        const sentAt = performance.now();
        opened.send({ ID: this.id });
        await this.#until(() => answers.length + ends.length > 0, thirdMs);
        if (this.#closing.signal.aborted) return;
        const answer = answers.shift();
        if (answer === undefined)
          throw ends[0] ?? new Unreachable('the renewal of a lease', `silent for ${thirdMs} ms`);
        if (answer.TTL <= 0n) return this.#end();
        this.#certainUntil = sentAt + Number(answer.TTL) * 1000;
        progress.failures = 0;
        await this.#until(() => ends.length > 0, sentAt + thirdMs - performance.now());
      }
    } catch (error) {
      opened.failed();
      throw error;
    } finally {
      opened.end();
    }
  }

  #end(): void {
    this.#gone = true;
    this.#hooks.gone();
  }

  /** Waits for it, for the time to be over, or to be closed. */
  async #until(done: () => boolean, timeoutMs: number): Promise<void> {
    const by = performance.now() + timeoutMs;
    const { signal } = this.#closing;
    for (;;) {
      const looked = this.#wake.now;
      const leftMs = by - performance.now();
      if (done() || signal.aborted || leftMs <= 0) return;
      await this.#wake.after(looked, { timeoutMs: leftMs, signal });
    }
  }
}
