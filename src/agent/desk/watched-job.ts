/** A job of this host while it is watched: the entries of its journal and its progress, each made an event once. */
import { entryInWords } from '../../core/job/entry-words.ts';
import { type EntryType, JobEvent } from '../../core/job/job-event.ts';
import { publicJob } from '../../core/job/job-view.ts';
import type { JournalEntry } from '../../core/job/journal-entry.ts';
import type { Progress } from '../../core/job/progress.ts';
import { timestamp } from '../../lib/clock.ts';
import { Wake } from '../../lib/wake.ts';
import type { Feed } from '../../watch/feed.ts';
import type { Revision } from '../host/entry-order.ts';
import type { Progresses } from '../job/progresses.ts';
import type { JobLog } from '../journal/job-log.ts';

export class WatchedJob implements Feed {
  /** Progress of this job alone. */
  readonly #sampled = new Wake();
  readonly #log: JobLog;
  readonly #progresses: Pick<Progresses, 'of' | 'poll'>;
  readonly #entries = new Map<number, JobEvent>();
  #progress: JobEvent | undefined;

  constructor(log: JobLog, progresses: Pick<Progresses, 'of' | 'poll'>) {
    this.#log = log;
    this.#progresses = progresses;
  }

  onChange(look: () => void): Disposable {
    const both = new DisposableStack();
    for (const wake of [this.#log.changed, this.#sampled]) both.use(wake.onChange(look));
    return both;
  }

  /** The progress has changed. */
  sampled(): void {
    this.#sampled.notify();
  }

  get oldest(): number {
    return this.#log.oldest;
  }

  get latest(): number {
    return this.#log.job.revision;
  }

  at(revision: number): JobEvent | undefined {
    const found = this.#log.at(revision);
    if (found === undefined) return undefined;
    const { job } = found;
    // Events of the past have no progress: it is a latest value, which would be wrong there.
    const progress = revision === this.#log.job.revision ? this.#progresses.of(job) : undefined;
    const known = this.#entries.get(revision);
    if (known !== undefined && known.progress === progress) return known;
    const event = eventOf(found, progress);
    this.#entries.set(revision, event);
    return event;
  }

  get progress(): JobEvent | undefined {
    const { job } = this.#log;
    const progress = this.#progresses.of(job);
    if (progress === undefined) return undefined;
    const known = this.#progress;
    if (known !== undefined && known.progress === progress && known.job.revision === job.revision) return known;
    this.#progress = new JobEvent({ type: 'PROGRESS', time: timestamp(), job: publicJob(job), progress, detail: '' });
    return this.#progress;
  }

  join(intervalMs: number): Disposable {
    return this.#progresses.poll(this.#log, intervalMs);
  }
}

export function eventOf({ entry, job }: Revision, progress: Progress | undefined): JobEvent {
  const type = TYPE_OF[entry.entry] ?? 'STATE';
  return new JobEvent({ type, time: entry.time, job: publicJob(job), progress, detail: entryInWords(entry) });
}

/** All other entries, except for steps, have changed the job's state, or a request about it. */
export const TYPE_OF: Partial<Record<JournalEntry['entry'], EntryType>> = {
  'step-started': 'STEP',
  'step-done': 'STEP',
  'step-refused': 'STEP',
  'step-unknown': 'STEP',
  'undo-started': 'STEP',
  'undo-done': 'STEP',
  'undo-failed': 'STEP',
  'pause-requested': 'STEP',
  'resume-requested': 'STEP',
  'speed-requested': 'STEP',
  'change-refused': 'STEP',
  'asked-again': 'STEP',
  followed: 'STEP',
  speed: 'SPEED',
  paused: 'PAUSED',
  resumed: 'RESUMED',
  space: 'SPACE',
};
