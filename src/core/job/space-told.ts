/** The space at the destination of a copy, as it is written down. */

/** ENOUGH: the rest of a copy fits. LOW: it does not, with the reserve. FULL: the reserve is used up, or soon is. */
export type SpaceLevel = 'ENOUGH' | 'LOW' | 'FULL';

/** At the start of the copy. */
export interface SpaceEstimate {
  readonly freeBytes: number;
  /** The bytes that the copy takes, besides those that the destination had allocated. */
  readonly neededBytes: number;
  readonly allocatedBytes: number;
  /** The most that the destination can allocate. */
  readonly wholeBytes: number;
}

/** Another level. Written before the job is paused or resumed for it. */
export interface SpaceTold {
  readonly entry: 'space';
  readonly level: SpaceLevel;
  /** The bytes that the rest of the copy takes. */
  readonly neededBytes: number;
  /** Undefined if it cannot be known. */
  readonly freeBytes?: number;
}
