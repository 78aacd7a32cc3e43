/**
 * The entries of a job, in the journal and in memory: the only place where they are written, and the source for
 * watchers. A watcher is a cursor in the log, not a queue: it costs nothing while it does not read, and misses nothing.
 */
import { advance, allows, begin, hasEnded, IllegalTransition, type Job } from '../../core/job/job.ts';
import type { Accepted, EntryBody, JournalEntry, RequestMark } from '../../core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../core/job/known-job.ts';
import { withUnwritten } from '../../core/job/unwritten.ts';
import { epochSeconds, timestamp } from '../../lib/clock.ts';
import { Lane } from '../../lib/lane.ts';
import type { Observer } from '../../lib/observer.ts';
import { Wake } from '../../lib/wake.ts';
import { placed, type Revision, revisionsOf } from '../host/entry-order.ts';
import type { HostClock } from '../host/host-clock.ts';
import { Journal, type ReadJournal } from './journal.ts';
import { intoState } from './state-folder.ts';

/** The place of journals, and what is needed to write them. */
export interface Journals {
  readonly folder: string;
  readonly clock: HostClock;
  readonly observer?: Observer;
}

/** No journal has so many entries, even if the host's clock says 1970. */
const ABOVE_ALL_LOST = 2 ** 30;

export class JobLog {
  readonly changed = new Wake();
  #connectionBroken = false;
  readonly clock: HostClock;
  readonly #journal: Journal | undefined;
  readonly #lane = new Lane();
  readonly #revisions: [Revision, ...Revision[]];
  /** Entries that are written with the next one. */
  #due: readonly EntryBody[] = [];
  /** When the last entry was written, on the clock of performance.now(); -Infinity if before this process began. */
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
    // The lost history had lower numbers: a client that resumes with one of them is told so.
    const revision = accepted.recovered === undefined ? 1 : Math.max(ABOVE_ALL_LOST, epochSeconds());
    using turn = clock.order.enter();
    const dated = { revision, time: timestamp(), ...placed(turn, 'accepted') };
    const entry: JournalEntry = { ...dated, ...accepted, ...(request && { request }) };
    const journal = await intoState(folder, async () => await Journal.begin(folder, accepted.job, [entry], observer));
    const first = { entry, job: begin(entry) };
    turn.written(first);
    return new JobLog(clock, journal, [first]);
  }

  /** Continues a job that has not ended. */
  static async reopen({ folder, clock, observer }: Journals, read: ReadJournal): Promise<JobLog> {
    const journal = await Journal.reopen(folder, read.job.accepted.job, read, observer);
    return new JobLog(clock, journal, revisionsOf(read.entries));
  }

  /** A job that has ended, for reading: nothing is written to its journal any more. */
  static ended({ clock }: Journals, read: ReadJournal): JobLog {
    return new JobLog(clock, undefined, revisionsOf(read.entries));
  }

  get job(): Job {
    return (this.#revisions.at(-1) ?? this.#revisions[0]).job;
  }

  /** The job after the entries that are written with the next one, too. */
  get ahead(): Job {
    return withUnwritten(this.job, this.#due);
  }

  /** The same one until there is another entry. */
  get known(): KnownJob {
    this.#known ??= knownOf(this.job);
    return this.#known;
  }

  /** Undefined if there is no such revision yet. */
  at(revision: number): Revision | undefined {
    return this.#revisions[revision - this.oldest];
  }

  /** The first revision that is kept. */
  get oldest(): number {
    return this.#revisions[0].entry.revision;
  }

  get revisions(): readonly Revision[] {
    return this.#revisions;
  }

  /** Where its last entry is in the order of the folder; 0: nobody has written it down. */
  get position(): number {
    return this.#revisions.at(-1)?.entry.position ?? 0;
  }

  /** The revision of the first entry of a kind. */
  revisionOf(kind: EntryBody['entry']): number | undefined {
    return this.#revisions.find(({ entry }) => entry.entry === kind)?.entry.revision;
  }

  /** The revision to which a request has led; undefined if there is none, as for '', which is not an id. */
  revisionOfRequest(id: string, caller = ''): number | undefined {
    const isIt = ({ entry: { request } }: Revision) => request?.id === id && (request.caller ?? caller) === caller;
    return this.#revisions.find(isIt)?.entry.revision;
  }

  /** Whether the start failed. */
  get refused(): boolean {
    return this.job.ended?.entry === 'refused';
  }

  /** Whether it has ended, and QEMU was never seen to run it. */
  get neverRan(): boolean {
    return this.ended && this.revisionOf('running') === undefined;
  }

  /** Whether the connection to its destination was broken for the guest's sake, so that no more data goes over it. */
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

  /** For how long it has been READY; undefined if it is not, or if its journal does not say. */
  get readyForMs(): number | undefined {
    const { state, ready } = this.job;
    return state === 'READY' && ready?.clock !== undefined ? this.clock.nowMs - ready.clock.ms : undefined;
  }

  /** The requests that have led to an entry. */
  get requests(): readonly RequestMark[] {
    return this.#revisions.flatMap(({ entry }) => entry.request ?? []);
  }

  /** Writes entries at once. Rejects with IllegalTransition, and without effect, if the job's state does not allow them. */
  async append(body: EntryBody, ...following: readonly EntryBody[]): Promise<Job> {
    return await this.offer(body, {
      following,
      otherwise: () => {
        throw new IllegalTransition(`${body.entry} of job ${this.job.accepted.job} while ${this.job.state}`);
      },
    });
  }

  /** Takes an entry from which nothing follows before the next one: both are written at once. A crash may lose it. */
  withNext(body: EntryBody): void {
    this.#due = [...this.#due, body];
  }

  /**
   * Writes an entry if the job's state still allows it, and `still` does: for an entry that a request, or QEMU, may
   * have made impossible meanwhile. If not, nothing is written and `otherwise` decides.
   */
  async offer<T>(
    body: EntryBody,
    {
      request,
      following = [],
      still = () => true,
      otherwise,
    }: {
      readonly request?: RequestMark | undefined;
      readonly following?: readonly EntryBody[];
      readonly still?: (job: Job) => boolean;
      readonly otherwise: () => T;
    },
  ): Promise<Job | T> {
    return await this.#lane.run(async () => {
      const journal = this.#journal;
      if (journal === undefined || !allows(this.ahead, body) || !still(this.ahead)) return otherwise();
      await this.#write(journal, [...this.#due, body, ...following], request);
      return this.job;
    });
  }

  /** `request`: the one that the last of these entries carries out. */
  async #write(journal: Journal, bodies: readonly EntryBody[], request: RequestMark | undefined): Promise<void> {
    using turns = new DisposableStack();
    let { job } = this;
    const written = bodies.map((body, at) => {
      const turn = turns.use(this.clock.order.enter());
      const dated = { revision: job.revision + 1, time: timestamp(), ...placed(turn, body.entry) };
      const mark = request !== undefined && body === bodies.at(-1) && { request };
      const entry: JournalEntry = { ...dated, ...body, ...mark, ...(at > 0 && { joined: true }) };
      job = advance(job, entry);
      return { turn, revision: { entry, job } };
    });
    await intoState(journal.folder, async () => await journal.append(...written.map(({ revision }) => revision.entry)));
    this.#due = this.#due.filter((body) => !bodies.includes(body));
    for (const { turn, revision } of written) {
      this.#revisions.push(revision);
      turn.written(revision);
    }
    this.#known = undefined;
    this.#writtenMs = performance.now();
    this.changed.notify();
  }

  /** A request that changes nothing is only marked as done. */
  async noteAgain(request: RequestMark | undefined): Promise<void> {
    if (request !== undefined) await this.offer({ entry: 'asked-again' }, { request, otherwise: () => undefined });
  }

  /** Resolves when the condition holds, or when the signal is aborted. */
  async until(isSo: (job: Job) => boolean, signal?: AbortSignal): Promise<void> {
    while (!isSo(this.job)) {
      if (signal?.aborted === true) return;
      await this.changed.after(this.changed.now, { ...(signal && { signal }) });
    }
  }

  /** A start does not last long; after it the job can be controlled, or does not exist. */
  async started(signal?: AbortSignal): Promise<void> {
    await this.until(({ state }) => state !== 'STARTING', signal);
  }

  async close(): Promise<void> {
    await this.#lane.run(async () => await this.#journal?.close());
  }

  /** For a failed start: the job is forgotten. */
  async remove(): Promise<void> {
    await this.#lane.run(async () => await this.#journal?.remove());
  }
}
