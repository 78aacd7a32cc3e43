// Follows ranges of keys for as long as we care: reads them once, then hears every change, in order, whatever happens
// to connections, members, and to etcd's own history.
//
//                      ┌──────────────── a pause ────────────────┐
//                      ▼                                          │
//   start() ──► opening ──► read what was never read ──► watching ┘ the stream ended: each range resumes after the
//                      ▲                                   │        last change that it heard
//                      └───────── compacted ───────────────┘ what it would resume from is gone: it is read again

import { Wake } from '../../lib/wake.ts';
import { pause, retryInMs } from './back-off.ts';
import type { Etcd } from './client.ts';
import { EtcdError } from './errors.ts';
import type { Entry, KeyChange, KeyRange } from './keys.ts';
import { read } from './transactions.ts';
import { WatchSession } from './watch-session.ts';

/** The follower of a range. Must not throw. */
export interface Follower {
  /** All entries are read: at first, and again after a gap, or if that failed. */
  readonly begins?: () => void;
  /** Some of them; at least once, also if there are none. */
  readonly page: (entries: readonly Entry[]) => void;
  /** These were all: any other one does not exist. */
  readonly complete?: () => void;
  readonly changed: (changes: readonly KeyChange[]) => void;
}

/** Whether the followers' view is current from now on, and if not, why. */
type BecomesLive = (live: boolean, why?: EtcdError) => void;

/** A read of one key that takes longer will not be answered, for example by a member that has lost the others. */
const QUICK_MS = 2_000;

interface Followed {
  readonly range: KeyRange;
  readonly follower: Follower;
  /** The first revision after the received ones; undefined if it must be read. */
  next: bigint | undefined;
  /** Its number in the present session. */
  watch: bigint | undefined;
}

export class Watcher implements AsyncDisposable {
  readonly #etcd: Etcd;
  readonly #becomes: BecomesLive;
  readonly #followed = new Set<Followed>();
  readonly #wake = new Wake();
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #live = false;
  #heardAt = performance.now();
  #failures = 0;

  constructor(etcd: Etcd, becomes: BecomesLive) {
    this.#etcd = etcd;
    this.#becomes = becomes;
  }

  /** Begins, and continues until it is disposed of. A second call does nothing. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** From a revision on; without one it is read first. Disposing of the result ends it at once. */
  follow(range: KeyRange, follower: Follower, next?: bigint): Disposable {
    const one: Followed = { range, follower, next, watch: undefined };
    this.#followed.add(one);
    this.#wake.notify();
    return {
      [Symbol.dispose]: () => {
        if (this.#followed.delete(one)) this.#wake.notify();
      },
    };
  }

  /** When etcd last sent something, on the clock of performance.now(); at first the time of construction. */
  get heardAt(): number {
    return this.#heardAt;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#session();
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        if (signal.aborted) return;
        this.#enter(false, error);
        await pause(retryInMs(this.#failures++), signal);
      }
    }
  }

  /** One stream, for as long as it lasts; rejects with the reason of its end. */
  async #session(): Promise<void> {
    const { signal } = this.#closing;
    const ended: { why?: EtcdError } = {};
    const watching = new Map<bigint, Followed>();
    const session = await WatchSession.open(
      this.#etcd,
      {
        changed: (watch, changes) => this.#changed(watching.get(watch), changes),
        compacted: (watch) => {
          const one = watching.get(watch);
          if (one !== undefined) Object.assign(one, { next: undefined, watch: undefined });
          this.#wake.notify();
        },
        heard: (answered) => {
          this.#heardAt = performance.now();
          if (answered && [...this.#followed].every((one) => one.watch !== undefined)) this.#enter(true);
        },
        over: (why) => {
          ended.why = why;
          this.#wake.notify();
        },
      },
      signal,
    );
    try {
      await this.#lookForGoneBack();
      for (;;) {
        const looked = this.#wake.now;
        // It may have ended during a read.
        if (ended.why !== undefined) throw ended.why;
        if (signal.aborted) return;
        for (const [watch, one] of watching) {
          if (this.#followed.has(one) && one.watch === watch) continue;
          watching.delete(watch);
          if (one.watch === watch) session.cancel(watch);
        }
        for (const one of this.#followed) {
          if (one.watch !== undefined) continue;
          one.next ??= await this.#read(one);
          one.watch = session.create(one.range, one.next);
          watching.set(one.watch, one);
        }
        await this.#wake.after(looked, { signal });
      }
    } finally {
      session.end();
      for (const one of this.#followed) one.watch = undefined;
    }
  }

  /** An etcd that was restored from a backup has gone back; a watch from its future would hear nothing for long. */
  async #lookForGoneBack(): Promise<void> {
    const [first] = [...this.#followed].filter(({ next }) => next !== undefined);
    if (first === undefined) return;
    // A key that we may read.
    const key = 'key' in first.range ? first.range.key : first.range.prefix;
    const options = { timeoutMs: QUICK_MS, signal: this.#closing.signal };
    const now = await this.#etcd.txn({ when: [], ifSo: [read(key)] }, options);
    for (const one of this.#followed) {
      if (one.next !== undefined && one.next > now.revision + 1n) one.next = undefined;
    }
  }

  async #read(one: Followed): Promise<bigint> {
    const { range, follower } = one;
    follower.begins?.();
    const take = (entries: readonly Entry[]) => {
      if (this.#followed.has(one)) follower.page(entries);
    };
    const revision = await this.#etcd.readAll(range, take, { signal: this.#closing.signal });
    if (this.#followed.has(one)) follower.complete?.();
    return revision + 1n;
  }

  #changed(one: Followed | undefined, changes: readonly KeyChange[]): void {
    if (one === undefined || !this.#followed.has(one)) return;
    const { next = 0n } = one;
    const news = changes.filter(({ modRevision }) => modRevision >= next);
    const last = news.at(-1);
    if (last === undefined) return;
    one.next = last.modRevision + 1n;
    one.follower.changed(news);
  }

  #enter(live: boolean, why?: EtcdError): void {
    if (live) this.#failures = 0;
    // Each failure is reported, because the reasons may differ.
    if (live && this.#live) return;
    this.#live = live;
    this.#becomes(live, why);
  }
}
