/**
 * A job's entries, in the journal and in memory: the one place where they are written, and what watchers read.
 * A watcher is a cursor in the log, not a queue: it costs nothing while it does not read, and loses nothing.
 */
import { advance, allows, begin, hasEnded, IllegalTransition, type Job } from '../../core/job/job.ts';
import type { Accepted, EntryBody, JournalEntry, RequestMark } from '../../core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../core/job/known-job.ts';
import { epochSeconds, timestamp } from '../../lib/clock.ts';
import { Lane } from '../../lib/lane.ts';
import type { Observer } from '../../lib/observer.ts';
import { Wake } from '../../lib/wake.ts';
import type { HostClock } from '../host/host-clock.ts';
import { Journal, type ReadJournal } from './journal.ts';
import { intoState } from './state-folder.ts';

/** The job as it was when it had this entry. */
export interface Revision {
  readonly entry: JournalEntry;
  readonly job: Job;
}

/** Where journals are, and what is needed to write them. */
export interface Journals {
  readonly folder: string;
  readonly clock: HostClock;
  readonly observer?: Observer;
}

/** No journal has as many entries, also where the host's clock says 1970. */
const ABOVE_ALL_LOST = 2 ** 30;

/** From which something is counted: for how long it has waited for its pivot, and for how long it is remembered. */
const COUNTED: ReadonlySet<EntryBody['entry']> = new Set(['ready', 'refused', 'ended']);

export class JobLog {
  readonly changed = new Wake();
  #connectionBroken = false;
  readonly clock: HostClock;
  readonly #journal: Journal | undefined;
  readonly #lane = new Lane();
  readonly #revisions: [Revision, ...Revision[]];
  /** When the last entry was written, as performance.now() counts; before this process began. */
  #writtenMs = -Infinity;
  #known: KnownJob | undefined;

  private constructor(clock: HostClock, journal: Journal | undefined, revisions: [Revision, ...Revision[]]) {
    this.clock = clock;
    this.#journal = journal;
    this.#revisions = revisions;
  }

  /** The job exists when this returns. */
  static async begin(
    { folder, clock, observer }: Journals,
    accepted: Accepted,
    request?: RequestMark,
  ): Promise<JobLog> {
    const journal = await intoState(folder, async () => await Journal.create(folder, accepted.job, observer));
    // The history that is lost had lower numbers, whatever they were: who comes back with one is told so.
    const revision = accepted.recovered === undefined ? 1 : Math.max(ABOVE_ALL_LOST, epochSeconds());
    const dated = { revision, time: timestamp(), clock: clock.stamp() };
    const entry: JournalEntry = { ...dated, ...accepted, ...(request && { request }) };
    try {
      await intoState(folder, async () => await journal.append(entry));
    } catch (error) {
      await journal.remove();
      throw error;
    }
    return new JobLog(clock, journal, [{ entry, job: begin(entry) }]);
  }

  /** To go on with a job that has not ended. */
  static async reopen({ folder, clock, observer }: Journals, read: ReadJournal): Promise<JobLog> {
    const journal = await Journal.reopen(folder, read.job.accepted.job, read, observer);
    return new JobLog(clock, journal, revisionsOf(read));
  }

  /** A job that has ended, to be looked at: nothing is written to its journal any more. */
  static ended({ clock }: Journals, read: ReadJournal): JobLog {
    return new JobLog(clock, undefined, revisionsOf(read));
  }

  get job(): Job {
    return (this.#revisions.at(-1) ?? this.#revisions[0]).job;
  }

  /** The same one until there is another entry. */
  get known(): KnownJob {
    this.#known ??= knownOf(this.job);
    return this.#known;
  }

  /** Undefined: there is no such revision yet. */
  at(revision: number): Revision | undefined {
    return this.#revisions[revision - this.oldest];
  }

  /** The first revision that is kept. */
  get oldest(): number {
    return this.#revisions[0].entry.revision;
  }

  /** The revision of the first entry of a kind. */
  revisionOf(kind: EntryBody['entry']): number | undefined {
    return this.#revisions.find(({ entry }) => entry.entry === kind)?.entry.revision;
  }

  /** The revision that a request has led to; undefined: none, as for '', which is no id. */
  revisionOfRequest(id: string, caller = ''): number | undefined {
    const isIt = ({ entry: { request } }: Revision) => request?.id === id && (request.caller ?? caller) === caller;
    return this.#revisions.find(isIt)?.entry.revision;
  }

  /** The start came to nothing. */
  get refused(): boolean {
    return this.job.ended?.entry === 'refused';
  }

  /** It has ended, and QEMU was never seen to run it. */
  get neverRan(): boolean {
    return this.ended && this.revisionOf('running') === undefined;
  }

  /** The connection to its destination was broken for the guest's sake, and nothing comes over it any more. */
  get connectionBroken(): boolean {
    return this.#connectionBroken;
  }

  connectionIsBroken(): void {
    this.#connectionBroken = true;
    this.changed.notify();
  }

  get ended(): boolean {
    return hasEnded(this.job);
  }

  get writtenMs(): number {
    return this.#writtenMs;
  }

  /** For how long it has been READY; undefined: it is not, or its journal does not tell. */
  get readyForMs(): number | undefined {
    const { state, ready } = this.job;
    return state === 'READY' && ready?.clock !== undefined ? this.clock.nowMs - ready.clock.ms : undefined;
  }

  /** The requests that have led to an entry. */
  get requests(): readonly RequestMark[] {
    return this.#revisions.flatMap(({ entry }) => entry.request ?? []);
  }

  /** Writes an entry. Rejects with IllegalTransition where the job's state does not allow it: nothing follows from it then. */
  async append(body: EntryBody): Promise<Job> {
    return await this.offer(body, {
      otherwise: () => {
        throw new IllegalTransition(`${body.entry} of job ${this.job.accepted.job} while ${this.job.state}`);
      },
    });
  }

  /**
   * Writes an entry, if the job's state still allows it, and `still` does: for what a request, or QEMU, may have made
   * impossible meanwhile. Else `otherwise` says what then, and nothing was written.
   */
  async offer<T>(
    body: EntryBody,
    {
      request,
      still = () => true,
      otherwise,
    }: {
      readonly request?: RequestMark | undefined;
      readonly still?: (job: Job) => boolean;
      readonly otherwise: () => T;
    },
  ): Promise<Job | T> {
    return await this.#lane.run(async () => {
      const journal = this.#journal;
      if (journal === undefined || !allows(this.job, body) || !still(this.job)) return otherwise();
      const entry: JournalEntry = {
        revision: this.job.revision + 1,
        time: timestamp(),
        ...(COUNTED.has(body.entry) && { clock: this.clock.stamp() }),
        ...body,
        ...(request && { request }),
      };
      await intoState(journal.folder, async () => await journal.append(entry));
      const job = advance(this.job, entry);
      this.#revisions.push({ entry, job });
      this.#known = undefined;
      this.#writtenMs = performance.now();
      this.changed.notify();
      return job;
    });
  }

  /** Of a request that changes nothing only its mark is written down. */
  async noteAgain(request: RequestMark | undefined): Promise<void> {
    if (request !== undefined) await this.offer({ entry: 'asked-again' }, { request, otherwise: () => undefined });
  }

  /** Resolves when it is so, or when the signal is aborted. */
  async until(isSo: (job: Job) => boolean, signal?: AbortSignal): Promise<void> {
    while (!isSo(this.job)) {
      if (signal?.aborted === true) return;
      await this.changed.after(this.changed.now, { ...(signal && { signal }) });
    }
  }

  /** A start is over in no time, one way or the other; then there is something to steer, or not. */
  async started(signal?: AbortSignal): Promise<void> {
    await this.until(({ state }) => state !== 'STARTING', signal);
  }

  async close(): Promise<void> {
    await this.#lane.run(async () => await this.#journal?.close());
  }

  /** For a start that came to nothing: the job is forgotten. */
  async remove(): Promise<void> {
    await this.#lane.run(async () => await this.#journal?.remove());
  }
}

function revisionsOf({ entries }: ReadJournal): [Revision, ...Revision[]] {
  const [first, ...rest] = entries;
  let job = begin(first);
  const revisions: [Revision, ...Revision[]] = [{ entry: first, job }];
  for (const entry of rest) {
    job = advance(job, entry);
    revisions.push({ entry, job });
  }
  return revisions;
}
