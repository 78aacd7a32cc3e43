/** The watch of all jobs of the fleet. Each host has its own pace. Hosts that join later are included. */
import type { Call } from '../../core/block-jobs.ts';
import type { JobsMessage, Position } from '../../core/jobs-message.ts';
import type { WatchJobsRequest } from '../../core/requests.ts';
import { parseWatchJobs } from '../../core/rules/list.ts';
import { Merged } from '../../lib/merged.ts';
import { LinkedAbort } from '../../lib/wake.ts';
import { followJobs, HEARTBEAT_MS, refuseMore } from '../../watch/follow-jobs.ts';
import type { Directory } from '../directory/directory.ts';
import type { Agents } from './agents.ts';
import { HostWatch } from './host-watch.ts';
import { hostNamed } from './job-places.ts';

/** The events of all hosts together that are kept for watchers. */
const RECENT = 8192;
/** The events that are kept for each host at least. A watcher that is further behind asks the agent. */
const RECENT_OF_HOST = 64;

const NO_HOSTS: ReadonlySet<string> = new Set();

type Hosts = Pick<Directory, 'host' | 'hosts' | 'missing' | 'changes'>;

export class FleetWatches {
  readonly #directory: Hosts;
  readonly #agents: Pick<Agents, 'of'>;
  readonly #hosts = new Map<string, HostWatch>();
  #watchers = 0;

  constructor(directory: Hosts, agents: Pick<Agents, 'of'>) {
    this.#directory = directory;
    this.#agents = agents;
  }

  get watchers(): number {
    return this.#watchers;
  }

  /** Ends with the signal of the call. */
  async *watch(request: WatchJobsRequest, call: Call): AsyncGenerator<JobsMessage> {
    const intervalMs = parseWatchJobs(request);
    refuseMore(this.#watchers);
    this.#watchers += 1;
    try {
      using end = new LinkedAbort(call.signal);
      using merged = new Merged<JobsMessage>();
      const asked = { ...request, intervalMs, call: { ...call, signal: end.signal } };
      const open = new Set<string>();
      let known: { readonly hosts?: unknown; readonly missing?: unknown } = {};
      // At each message: most of the time both lists are the known ones.
      const look = () => {
        const [hosts, missing] = [this.#directory.hosts(), this.#directory.missing()];
        if (hosts === known.hosts && missing === known.missing) return NO_HOSTS;
        known = { hosts, missing };
        const names = [...hosts.map(({ name }) => name), ...missing];
        const fresh = new Set([...names, ...request.positions.keys()]).difference(open);
        for (const host of fresh) {
          open.add(host);
          merged.add(this.#follow(host, { ...asked, after: request.positions.get(host) }));
        }
        return fresh;
      };
      yield* this.#together(merged, look, end.signal);
    } finally {
      this.#watchers -= 1;
    }
  }

  async *#together(
    merged: Merged<JobsMessage>,
    look: () => ReadonlySet<string>,
    signal: AbortSignal,
  ): AsyncGenerator<JobsMessage> {
    const open = new Set<string>();
    let isComplete = false;
    let positions = new Map<string, Position>();
    let sentMs = performance.now();
    void this.#tell(merged, signal);
    for (;;) {
      for (const host of look()) open.add(host);
      if (!isComplete && open.size === 0) {
        isComplete = true;
        yield { is: 'COMPLETE' };
      }
      const timeoutMs = Math.max(0, sentMs + HEARTBEAT_MS - performance.now());
      const message = await merged.next({ timeoutMs, signal });
      if (signal.aborted) return;
      if (message?.is === 'HEARTBEAT') positions = new Map([...positions, ...message.positions]);
      else if (message !== undefined) {
        sentMs = performance.now();
        yield message;
        if (message.is === 'SYNCED' || message.is === 'UNREACHABLE') open.delete(message.host);
      } else if (performance.now() - sentMs >= HEARTBEAT_MS) {
        sentMs = performance.now();
        yield { is: 'HEARTBEAT', positions };
        positions = new Map();
      }
    }
  }

  /** Interrupts `merged` after each change of the directory. */
  async #tell(merged: Merged<JobsMessage>, signal: AbortSignal): Promise<void> {
    const { changes } = this.#directory;
    while (!signal.aborted) {
      await changes.after(changes.now, { signal });
      merged.interrupt();
    }
  }

  async *#follow(host: string, watcher: Parameters<typeof followJobs>[1]): AsyncGenerator<JobsMessage> {
    const feed = this.#hosts.get(host) ?? this.#hostWatch(host);
    this.#hosts.set(host, feed);
    try {
      yield* followJobs(feed, watcher);
    } finally {
      if (!feed.isWatched) this.#hosts.delete(host);
    }
  }

  #hostWatch(host: string): HostWatch {
    const agentNow = () => this.#agents.of(hostNamed(this.#directory, host));
    const share = Math.floor(RECENT / Math.max(1, this.#directory.hosts().length));
    return new HostWatch({ host, agentNow }, Math.max(RECENT_OF_HOST, share));
  }
}
