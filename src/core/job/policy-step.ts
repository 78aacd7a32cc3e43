/** The steps of an end policy, as they are written down. */

export type PolicyAction =
  /** The job's own limit is lifted. */
  | 'LIMIT'
  /** The guest's writes wait for the destination from now on. */
  | 'BLOCKING'
  /** The time limit has expired, and the job goes on. */
  | 'HOLD'
  /** The time limit has expired, and the guest is paused while the rest is copied. */
  | 'PAUSE_GUEST';

/** Written before the step is taken: a service that reads it goes on with it. */
export interface PolicyStep {
  readonly entry: 'policy-step';
  readonly what: PolicyAction;
  /** In words, with the numbers. */
  readonly because: string;
  /** The job at that moment. */
  readonly remainingBytes: number;
  readonly bytesPerSecond: number;
  /** The new limit. Undefined for other steps. */
  readonly bandwidthBytesPerSecond?: number;
}

/** The mirror in QEMU works so now. */
export interface ModeTold {
  readonly entry: 'write-mode';
  readonly writeMode: 'BLOCKING';
}

/** The unit of dirty tracking that the service has chosen, and the guest's writes until then. */
export interface ChosenGranularity {
  readonly granularityBytes: number;
  /** The mean size of a write. */
  readonly writeBytes: number;
  readonly writes: number;
}
