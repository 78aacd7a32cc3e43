/**
 * One stream from a job's agent, for all who watch that job here. Revisions have no gaps, so the agent, or the way to
 * it, may be lost: the stream is opened again behind the last revision, and nobody who watches sees the seam.
 *
 *   agent ──events──► revisions kept ──► watcher, at its own place and pace
 *     ▲                    │        └──► watcher
 *     └─ again, behind ────┘ while anybody watches, for as long as anybody should wait
 */
import type { Call, JobEvent } from '../core/block-jobs.ts';
import { BlockJobError } from '../core/errors.ts';
import { hasEnded } from '../core/job.ts';
import type { WatchRequest } from '../core/requests.ts';
import { Wake } from '../lib/wake.ts';
import type { Agent } from './agents.ts';
import { isUnreachable } from './ask-all.ts';

/** An agent restarts in a second or two; one that stays away longer is for the watcher to know. */
const PATIENCE_MS = 30_000;
const AGAIN_MS = { first: 100, longest: 2000 };

export class SharedWatch {
  /** Notified at whatever there is to see. */
  readonly changed = new Wake();
  readonly #job: string;
  readonly #agentOf: (job: string, call: Call) => Promise<Agent>;
  readonly #revisions: JobEvent[] = [];
  readonly #intervals = new Map<object, number>();
  readonly #stop = new AbortController();
  #oldest = 1;
  #compacted: JobEvent | undefined;
  #progress: JobEvent | undefined;
  #failed: unknown;
  /** Of the present stream; a watcher that wants progress more often opens another one. */
  #intervalMs = Infinity;
  #stream = new AbortController();
  #lastHeard = performance.now();

  constructor(job: string, agentOf: (job: string, call: Call) => Promise<Agent>) {
    this.#job = job;
    this.#agentOf = agentOf;
  }

  /** The first revision that there is. */
  get oldest(): number {
    return this.#oldest;
  }

  /** What the agent said when it told that earlier ones are not kept. */
  get compacted(): JobEvent | undefined {
    return this.#compacted;
  }

  /** The last one that was heard; undefined: none yet. */
  get latest(): JobEvent | undefined {
    return this.#revisions.at(-1);
  }

  at(revision: number): JobEvent | undefined {
    return this.#revisions[revision - this.#oldest];
  }

  /** Of the state that `latest` tells of. */
  get progress(): JobEvent | undefined {
    return this.#progress?.job.revision === this.latest?.job.revision ? this.#progress : undefined;
  }

  /** Why there will be no more, where the job has not ended. */
  get failed(): unknown {
    return this.#failed;
  }

  get watchers(): number {
    return this.#intervals.size;
  }

  /** Takes part until it is disposed of. The last one to leave ends the stream. */
  join(intervalMs: number): Disposable {
    const watcher = {};
    const isFirst = this.#intervals.size === 0;
    this.#intervals.set(watcher, intervalMs);
    if (intervalMs < this.#intervalMs) {
      this.#intervalMs = intervalMs;
      this.#stream.abort();
    }
    if (isFirst) void this.#follow();
    return {
      [Symbol.dispose]: () => {
        this.#intervals.delete(watcher);
        if (this.#intervals.size === 0) this.#stop.abort();
      },
    };
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let pauseMs = AGAIN_MS.first; !signal.aborted; pauseMs = Math.min(2 * pauseMs, AGAIN_MS.longest)) {
      this.#stream = new AbortController();
      const before = this.#lastHeard;
      try {
        await this.#read({ signal: AbortSignal.any([signal, this.#stream.signal]) });
        const { latest } = this;
        if ((latest !== undefined && hasEnded(latest.job)) || signal.aborted) return;
        if (this.#stream.signal.aborted) continue;
      } catch (error) {
        if (signal.aborted) return;
        const mayPass = error instanceof BlockJobError && isUnreachable(error);
        if (!mayPass || performance.now() - this.#lastHeard > PATIENCE_MS) {
          this.#failed = error;
          this.changed.notify();
          return;
        }
      }
      if (this.#lastHeard !== before) pauseMs = AGAIN_MS.first;
      const nothing = new Wake();
      // Many gateways come back to an agent that has been restarted: not all in the same instant.
      await nothing.after(nothing.now, { timeoutMs: pauseMs * (0.5 + Math.random()), signal });
    }
  }

  async #read(call: Call): Promise<void> {
    const agent = await this.#agentOf(this.#job, call);
    const request: WatchRequest = {
      job: { jobId: this.#job },
      afterRevision: this.latest?.job.revision ?? this.#oldest - 1,
      progressIntervalMs: this.#intervalMs,
    };
    for await (const event of agent.watch(request, call)) {
      this.#lastHeard = performance.now();
      this.#take(event);
      this.changed.notify();
    }
  }

  #take(event: JobEvent): void {
    switch (event.type) {
      case 'PROGRESS':
        this.#progress = event;
        return;
      case 'HEARTBEAT':
      case 'SNAPSHOT':
        return;
      case 'COMPACTED':
        // What was kept here before belongs to a history with a hole.
        this.#revisions.length = 0;
        this.#oldest = event.oldestRevision ?? 1;
        this.#compacted = event;
        return;
      default:
        this.#revisions.push(event);
    }
  }
}
