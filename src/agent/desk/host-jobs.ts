/**
 * The feed of all jobs of this host, for its watchers. The journals have all entries. The latest entries are kept in
 * memory while somebody watches.
 */
import { hasEnded } from '../../core/job/job.ts';
import { JobEvent } from '../../core/job/job-event.ts';
import { publicJob } from '../../core/job/job-view.ts';
import type { JobsMessage, Position } from '../../core/jobs-message.ts';
import { timestamp } from '../../lib/clock.ts';
import { type JobsFeed, type JobsWatcher, wants } from '../../watch/follow-jobs.ts';
import { Recent } from '../../watch/recent.ts';
import type { Revision } from '../host/entry-order.ts';
import type { HostClock } from '../host/host-clock.ts';
import type { JobTable } from '../job/job-table.ts';
import type { Progresses } from '../job/progresses.ts';
import type { EndedJob } from '../journal/ended-job.ts';
import { JobLog } from '../journal/job-log.ts';
import type { JobViews } from './job-views.ts';
import { eventOf } from './watched-job.ts';

/** The entries in memory, each with its job at that time. A watcher that is further behind reads the journals. */
const RECENT = 2000;
/** A journal is kept for at least this long. */
const KEPT_MS = 86_400_000;
/** The jobs of a snapshot that are read together. */
const AT_ONCE = 50;

export interface HostJobsOptions {
  readonly host: string;
  readonly clock: HostClock;
  readonly jobs: Pick<JobTable, 'known' | 'complete'>;
  readonly views: Pick<JobViews, 'now'>;
  readonly progresses: Pick<Progresses, 'of' | 'poll'>;
}

type Log = JobLog | EndedJob;

export class HostJobs implements JobsFeed {
  /** The epoch of the order of the entries. */
  epoch = '';
  readonly recent: Recent;
  readonly #options: HostJobsOptions;
  readonly #intervals = new Set<{ readonly intervalMs: number }>();
  readonly #polls = new Map<string, Disposable>();
  #listening: Disposable | undefined;

  /** `recent`: the number of entries that are kept in memory. */
  constructor(options: HostJobsOptions, recent = RECENT) {
    this.#options = options;
    this.recent = new Recent(recent);
  }

  get host(): string {
    return this.#options.host;
  }

  get watchers(): number {
    return this.#intervals.size;
  }

  join(intervalMs: number): Disposable {
    const interest = { intervalMs };
    const { clock } = this.#options;
    if (this.#intervals.size === 0) {
      this.recent.begin({ epoch: this.epoch, at: clock.order.settled });
      this.#listening = clock.order.onEntry((revision) => this.#take(revision));
    }
    const before = this.#intervalMs;
    this.#intervals.add(interest);
    if (this.#intervalMs !== before) this.pollAgain();
    return {
      [Symbol.dispose]: () => {
        const shortest = this.#intervalMs;
        this.#intervals.delete(interest);
        if (this.#intervalMs !== shortest) this.pollAgain();
        if (this.#intervals.size > 0) return;
        this.#listening?.[Symbol.dispose]();
        this.recent.end();
      },
    };
  }

  keepFrom(): void {
    // The host keeps all entries since its first watcher joined.
  }

  moveOn(): void {
    this.recent.moveOn(this.#options.clock.order.mark());
  }

  /** A start failed: watchers that know its job have to learn that the job does not exist. */
  refused(): void {
    this.recent.newRound();
  }

  /** Takes a new progress of a job. */
  sampled(job: string): void {
    if (this.#intervals.size === 0) return;
    const log = this.#options.jobs.known.get(job);
    // Watchers see the entry of a revision before its progress.
    if (!(log instanceof JobLog) || log.ended || log.position > this.#options.clock.order.settled) return;
    const progress = this.#options.progresses.of(log.job);
    this.recent.progress.set(
      job,
      new JobEvent({ type: 'PROGRESS', time: timestamp(), job: publicJob(log.job), progress, detail: '' }),
    );
  }

  /** Polls the progress of all running jobs, including jobs whose QEMU has just become reachable. */
  pollAgain(): void {
    for (const poll of this.#polls.values()) poll[Symbol.dispose]();
    this.#polls.clear();
    if (this.#intervals.size > 0) for (const log of this.#options.jobs.known.active) this.#poll(log);
  }

  async *behind(watcher: JobsWatcher): AsyncGenerator<JobsMessage> {
    const { jobs, clock, host } = this.#options;
    const { epoch } = this;
    const { signal } = watcher.call;
    await jobs.complete();
    // An earlier service may have sent positions later than the last entry.
    clock.order.mark();
    const lost = this.#lostAfter(watcher.after);
    let seen: Map<string, number> | undefined;
    let from = watcher.after?.at ?? 0;
    if (watcher.after === undefined || lost !== undefined) {
      yield { is: 'SNAPSHOT', host, lost };
      from = clock.order.settled;
      // The snapshot may show entries that are not settled yet.
      seen = new Map();
      await clock.order.untilSettled(yield* this.#snapshot(watcher, seen), signal);
    }
    for (;;) {
      if (signal.aborted) return;
      const to = clock.order.settled;
      for await (const told of this.#between(from, to, watcher)) {
        const { accepted, revision } = told.event.job;
        if (revision <= (seen?.get(accepted.job) ?? 0)) continue;
        // Without a position, a watch that is cut off before the snapshot is complete starts again.
        const placed = seen === undefined ? { position: { epoch, at: told.at } } : {};
        yield { is: 'EVENT', host, event: told.event, ...placed };
      }
      from = to;
      if (clock.order.settled === to) break;
    }
    const starting = jobs.known.active.filter(({ job }) => job.state === 'STARTING' && wants(watcher, job));
    yield {
      is: 'SYNCED',
      host,
      starting: starting.map(({ job }) => job.accepted.job),
      position: { epoch, at: from },
    };
  }

  get #intervalMs(): number {
    return Math.min(...[...this.#intervals].map(({ intervalMs }) => intervalMs));
  }

  #take(revision: Revision): void {
    const { jobs, progresses } = this.#options;
    const { entry, job } = revision;
    const id = job.accepted.job;
    const log = jobs.known.get(id);
    const isLatest = log?.position === entry.position;
    this.recent.push(entry.position ?? 0, eventOf(revision, isLatest ? progresses.of(job) : undefined));
    if (hasEnded(job)) {
      this.#polls.get(id)?.[Symbol.dispose]();
      this.#polls.delete(id);
    } else if (log instanceof JobLog && !this.#polls.has(id)) this.#poll(log);
  }

  #poll(log: JobLog): void {
    this.#polls.set(log.job.accepted.job, this.#options.progresses.poll(log, this.#intervalMs));
  }

  /** Why entries after a position may be lost; undefined if all of them are kept. */
  #lostAfter(after: Position | undefined): string | undefined {
    const { clock } = this.#options;
    if (after === undefined) return undefined;
    if (after.epoch !== this.epoch || after.at > clock.order.settled)
      return 'the position of the watch belongs to another state folder, or to other rights';
    return clock.nowMs - after.at > KEPT_MS ? 'the position of the watch is older than 24 hours' : undefined;
  }

  /** Returns the position of the latest entry that it shows. */
  async *#snapshot(watcher: JobsWatcher, seen: Map<string, number>): AsyncGenerator<JobsMessage, number> {
    const { jobs, views, host } = this.#options;
    let shown = 0;
    const { activeOnly = false } = watcher;
    const all = jobs.known.newestFirst.filter(({ job, ended }) => wants(watcher, job) && !(activeOnly && ended));
    for (let at = 0; at < all.length && !watcher.call.signal.aborted; at += AT_ONCE) {
      const logs = await jobs.known.openAll(all.slice(at, at + AT_ONCE));
      for (const { job, progress } of await views.now(logs)) {
        seen.set(job.accepted.job, job.revision);
        const event = new JobEvent({ type: 'SNAPSHOT', time: timestamp(), job, progress, detail: 'the job as it is' });
        yield { is: 'EVENT', host, event };
      }
      for (const { position } of logs) shown = Math.max(shown, position);
    }
    return shown;
  }

  /** The entries of the journals after one position, up to another. */
  async *#between(from: number, to: number, watcher: JobsWatcher): AsyncGenerator<{ at: number; event: JobEvent }> {
    const { known } = this.#options.jobs;
    const found: { readonly at: number; readonly revision: number; readonly log: Log }[] = [];
    for (const log of known.newestFirst.filter(({ position, job }) => position > from && wants(watcher, job))) {
      const [opened] = await known.openAll([log]);
      for (const { entry } of opened?.revisions ?? []) {
        const { position: at = 0, revision } = entry;
        if (at > from && at <= to) found.push({ at, revision, log });
      }
    }
    for (const { at, revision, log } of found.toSorted((one, other) => one.at - other.at)) {
      const [opened] = await known.openAll([log]);
      const entry = opened?.at(revision);
      if (entry !== undefined) yield { at, event: eventOf(entry, undefined) };
    }
  }
}
