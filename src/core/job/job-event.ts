/** What a watcher of a job is told. */
import type { JobView } from './job-view.ts';

/**
 * The types of events: which are entries of the journal, each with a revision of its own. The others tell of the job
 * beside it, and have the revision of the entry before them.
 */
export const IS_ENTRY = {
  SNAPSHOT: false,
  COMPACTED: false,
  STATE: true,
  STEP: true,
  PROGRESS: false,
  SPEED: true,
  PAUSED: true,
  RESUMED: true,
  HEARTBEAT: false,
} as const;

export type EventType = keyof typeof IS_ENTRY;
export type EntryType = { [Type in EventType]: (typeof IS_ENTRY)[Type] extends true ? Type : never }[EventType];

export type EventFacts = Omit<JobEvent, 'encoded'>;

/** The same one goes to all who watch, and carries its encoded form; one with other facts is another one. */
export class JobEvent implements JobView {
  readonly type: EventType;
  /** RFC 3339: when it happened; for those that are no entry, when it was sent. */
  readonly time: string;
  readonly job: JobView['job'];
  readonly progress: JobView['progress'];
  /** What the journal's entry says, in words. */
  readonly detail: string;
  /** Only with COMPACTED: the first revision that is kept. */
  readonly oldestRevision?: number | undefined;
  #encoded: Uint8Array | undefined;

  constructor({ type, time, job, progress, detail, oldestRevision }: EventFacts) {
    this.type = type;
    this.time = time;
    this.job = job;
    this.progress = progress;
    this.detail = detail;
    this.oldestRevision = oldestRevision;
  }

  /** As it is sent to each of them: `encode` is asked once. */
  encoded(encode: (event: JobEvent) => Uint8Array): Uint8Array {
    this.#encoded ??= encode(this);
    return this.#encoded;
  }
}
