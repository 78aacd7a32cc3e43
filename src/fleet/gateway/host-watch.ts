/**
 * The feed of all jobs of one host, for the watchers of this gateway. One stream from the agent brings the latest
 * events.
 */
import type { BlockJobs, Call } from '../../core/block-jobs.ts';
import { BlockJobError, failure } from '../../core/errors.ts';
import { type JobsMessage, type Position, positionsIn } from '../../core/jobs-message.ts';
import type { WatchJobsRequest } from '../../core/requests.ts';
import type { JobsFeed, JobsWatcher } from '../../watch/follow-jobs.ts';
import { Recent } from '../../watch/recent.ts';
import { pause, retryInMs } from '../etcd/back-off.ts';

interface AgentJobs {
  readonly host: string;
  /** Throws if the fleet no longer has the host. */
  readonly agentNow: () => Pick<BlockJobs, 'watchJobs'>;
}

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
    const request = { domain: '', after, progressIntervalMs: this.#streamMs };
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
        // Watchers that got UNREACHABLE get SYNCED now.
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

/**
 * The messages of the agent about its jobs, until the signal of the call aborts. Each failure of the stream is an
 * UNREACHABLE message, after which it asks again from the last position.
 */
async function* agentJobs(
  { host, agentNow }: AgentJobs,
  request: Omit<WatchJobsRequest, 'positions'> & { readonly after: Position | undefined },
  call: Call,
): AsyncGenerator<JobsMessage> {
  const { signal } = call;
  let { after } = request;
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const positions = new Map(after === undefined ? [] : [[host, after]]);
      for await (const message of agentNow().watchJobs({ ...request, positions }, call)) {
        after = positionsIn(message).get(host) ?? after;
        failures = 0;
        if (message.is !== 'COMPLETE') yield message;
      }
      if (signal.aborted) return;
      yield { is: 'UNREACHABLE', host, why: failure('HOST_UNREACHABLE', { host, why: 'its watch has ended' }) };
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof BlockJobError)) throw error;
      yield { is: 'UNREACHABLE', host, why: error.failure };
    }
    // Many watches come back to an agent that has been restarted. They must not all come in the same instant.
    await pause(retryInMs(failures), signal);
  }
}
