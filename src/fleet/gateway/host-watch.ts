/**
 * The feed of all jobs of one host, for the watchers of this gateway. One stream from the agent brings the latest
 * events.
 */
import { failure } from '../../core/errors.ts';
import type { JobsMessage, Position } from '../../core/jobs-message.ts';
import type { JobsFeed, JobsWatcher } from '../../watch/follow-jobs.ts';
import { Recent } from '../../watch/recent.ts';
import { type AgentJobs, agentJobs } from './agent-jobs.ts';

/** The jobs of the shared stream. It does not keep snapshots, so ended jobs need not be sent. */
const ALL = { domain: '', activeOnly: true };

export class HostWatch implements JobsFeed {
  readonly recent: Recent;
  readonly #agent: AgentJobs;
  readonly #intervals = new Set<{ readonly intervalMs: number }>();
  #stream = new AbortController();
  /** The progress interval of the current stream. */
  #streamMs = Infinity;
  #isSynced = false;

  /** `recent`: the number of events that are kept. */
  constructor(agent: AgentJobs, recent: number) {
    this.#agent = agent;
    this.recent = new Recent(recent);
  }

  get host(): string {
    return this.#agent.host;
  }

  get isWatched(): boolean {
    return this.#intervals.size > 0;
  }

  /** The stream ends when its last watcher leaves. */
  join(intervalMs: number): Disposable {
    const interest = { intervalMs };
    this.#intervals.add(interest);
    const { position } = this.recent;
    if (position !== undefined && this.#shortestMs < this.#streamMs) this.#open(position);
    return {
      [Symbol.dispose]: () => {
        this.#intervals.delete(interest);
        if (this.isWatched) return;
        this.#stream.abort();
        this.recent.end();
      },
    };
  }

  keepFrom(position: Position): void {
    if (this.recent.position?.epoch === position.epoch) return;
    this.recent.begin(position);
    this.#open(position);
  }

  moveOn(): void {
    // The heartbeats of the agent do this.
  }

  /** Asks the agent as this caller, whose rights apply. */
  behind({ call, intervalMs, ...watcher }: JobsWatcher): AsyncIterable<JobsMessage> {
    return agentJobs(this.#agent, { ...watcher, progressIntervalMs: intervalMs }, call);
  }

  get #shortestMs(): number {
    return Math.min(...[...this.#intervals].map(({ intervalMs }) => intervalMs));
  }

  #open(after: Position): void {
    this.#stream.abort();
    this.#stream = new AbortController();
    this.#streamMs = this.#shortestMs;
    this.#isSynced = false;
    this.#read(after, this.#stream.signal).catch((why: unknown) => {
      this.recent.trouble = failure('HOST_UNREACHABLE', { host: this.host, why: String(why) });
    });
  }

  async #read(after: Position, signal: AbortSignal): Promise<void> {
    const request = { ...ALL, after, progressIntervalMs: this.#streamMs };
    for await (const message of agentJobs(this.#agent, request, { signal })) {
      if (signal.aborted) return;
      this.#take(message);
    }
  }

  #take(message: JobsMessage): void {
    const { recent } = this;
    switch (message.is) {
      case 'EVENT':
        if (message.position !== undefined) recent.push(message.position.at, message.event);
        else if (message.event.type === 'PROGRESS') recent.progress.set(message.event.job.accepted.job, message.event);
        break;
      // There may be a gap between the kept events and those that follow.
      case 'SNAPSHOT':
        recent.end();
        break;
      case 'SYNCED':
        // Watchers that heard UNREACHABLE hear SYNCED now.
        if (this.#isSynced || recent.trouble !== undefined) recent.newRound();
        recent.trouble = undefined;
        if (recent.position === undefined) recent.begin(message.position);
        else recent.moveOn(message.position.at);
        this.#isSynced = true;
        break;
      case 'UNREACHABLE':
        recent.trouble = message.why;
        break;
      case 'HEARTBEAT':
        recent.moveOn(message.positions.get(this.host)?.at ?? 0);
        break;
      case 'COMPLETE':
        break;
    }
  }
}
