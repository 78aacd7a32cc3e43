/** The events for a watcher of a job. */
import type { JobView } from './job-view.ts';

/** The types of events. Entries of the journal have a revision each, other events that of the entry before them. */
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
  SPACE: true,
} as const;

export type EventType = keyof typeof IS_ENTRY;
export type EntryType = { [Type in EventType]: (typeof IS_ENTRY)[Type] extends true ? Type : never }[EventType];

export type EventFacts = Omit<JobEvent, 'encoded'>;

/** All watchers get the same object, which carries its encoded form; an event with other facts is another object. */
export class JobEvent implements JobView {
  readonly type: EventType;
  /** RFC 3339: when it happened; when it was sent if it is not an entry. */
  readonly time: string;
  readonly job: JobView['job'];
  readonly progress: JobView['progress'];
  /** The journal's entry, in words. */
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

  /** The encoded form for all watchers: `encode` is called once. */
  encoded(encode: (event: JobEvent) => Uint8Array): Uint8Array {
    this.#encoded ??= encode(this);
    return this.#encoded;
  }
}
