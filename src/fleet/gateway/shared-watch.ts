/**
 * One stream from a job's agent, for all watchers of that job here. Revisions have no gaps, so the agent, or the
 * connection to it, may be lost: the stream is opened again behind the last revision, and no watcher notices it.
 *
 *   agent ──events──► revisions kept ──► watcher, at its own place and pace
 *     ▲                    │        └──► watcher
 *     └─ again, behind ────┘ while there are watchers, for as long as they should wait
 */
import type { Call } from '../../core/block-jobs.ts';
import { BlockJobError } from '../../core/errors.ts';
import type { JobEvent } from '../../core/job/job-event.ts';
import { isOver } from '../../core/job/job-view.ts';
import type { WatchRequest } from '../../core/requests.ts';
import { Wake } from '../../lib/wake.ts';
import type { Feed } from '../../watch/feed.ts';
import { pause } from '../etcd/back-off.ts';
import type { Agent } from './agents.ts';
import { isHostUnreachable } from './ask-all.ts';

/** An agent restarts in a second or two; the watchers should know of a longer absence. */
const AGENT_IS_BACK_MS = 30_000;
const AGAIN_MS = { first: 100, longest: 2000 };

export class SharedWatch implements Feed {
  readonly #changed = new Wake();
  readonly #job: string;
  readonly #agentNow: (call: Call) => Promise<Agent>;
  readonly #revisions: JobEvent[] = [];
  readonly #stop = new AbortController();
  #watchers = 0;
  #oldest = 1;
  #progress: JobEvent | undefined;
  #failed: unknown;
  /** The interval of the present stream; a watcher that wants progress more often opens another stream. */
  #intervalMs = Infinity;
  #stream = new AbortController();
  #lastHeard = performance.now();

  /** `agentNow` finds the agent with the job. */
  constructor(job: string, agentNow: (call: Call) => Promise<Agent>) {
    this.#job = job;
    this.#agentNow = agentNow;
  }

  onChange(look: () => void): Disposable {
    return this.#changed.onChange(look);
  }

  get oldest(): number {
    return this.#oldest;
  }

  get latest(): number {
    return this.#revisions.at(-1)?.job.revision ?? this.#oldest - 1;
  }

  at(revision: number): JobEvent | undefined {
    return this.#revisions[revision - this.#oldest];
  }

  get progress(): JobEvent | undefined {
    return this.#progress;
  }

  get failed(): unknown {
    return this.#failed;
  }

  /** The last one to leave ends the stream. */
  join(intervalMs: number): Disposable {
    this.#watchers += 1;
    const isOftener = intervalMs < this.#intervalMs;
    this.#intervalMs = Math.min(intervalMs, this.#intervalMs);
    if (this.#watchers === 1) void this.#follow();
    else if (isOftener) this.#stream.abort();
    return {
      [Symbol.dispose]: () => {
        this.#watchers -= 1;
        if (this.#watchers === 0) this.#stop.abort();
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
        const latest = this.#revisions.at(-1);
        if ((latest !== undefined && isOver(latest.job)) || signal.aborted) return;
        if (this.#stream.signal.aborted) continue;
      } catch (error) {
        if (signal.aborted) return;
        const mayPass = error instanceof BlockJobError && isHostUnreachable(error);
        if (!mayPass || performance.now() - this.#lastHeard > AGENT_IS_BACK_MS) {
          this.#failed = error;
          this.#changed.notify();
          return;
        }
      }
      if (this.#lastHeard !== before) pauseMs = AGAIN_MS.first;
      // Many gateways come back to a restarted agent: not all in the same instant.
      await pause(pauseMs * (0.5 + Math.random()), signal);
    }
  }

  async #read(call: Call): Promise<void> {
    const agent = await this.#agentNow(call);
    const request: WatchRequest = {
      job: { jobId: this.#job },
      afterRevision: this.latest,
      progressIntervalMs: this.#intervalMs,
    };
    for await (const event of agent.watch(request, call)) {
      this.#lastHeard = performance.now();
      this.#take(event);
    }
  }

  #take(event: JobEvent): void {
    if (event.type === 'PROGRESS') this.#progress = event;
    else if (event.type === 'COMPACTED') {
      // The events kept so far belong to a history with a gap.
      this.#revisions.length = 0;
      this.#oldest = event.oldestRevision ?? 1;
      // Not by its type: a newer agent may have others.
    } else if (event.job.revision > this.latest) this.#revisions.push(event);
    else {
      // A sign of life, which is not passed on.
      return;
    }
    this.#changed.notify();
  }
}
