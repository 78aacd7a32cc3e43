/** What was heard of a job, beside what was asked. */

/** Of QEMU, over the present connection. */
export interface Heard {
  /** For how long it has answered nothing that it was asked. */
  readonly silentMs: number;
  /** It has told that the job is under way, and of no end since. */
  readonly isUnderWay: boolean;
  readonly connectionBroken: boolean;
}

export const NOTHING_HEARD: Heard = { silentMs: 0, isUnderWay: false, connectionBroken: false };
