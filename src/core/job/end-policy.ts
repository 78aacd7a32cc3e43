/** The part of a job that its end policy changes, and that clients and a pivot change, too. */
import type { JobOptions, WriteMode } from '../job-options.ts';
import type { EntryOf } from './journal-entry.ts';
import type { PolicyStep } from './policy-step.ts';

/** The limit of a job, its write mode and the hold of its guest: by clients, by its end policy, and for its pivot. */
export interface PolicySoFar {
  /** The limit in QEMU; 0 for none. */
  readonly bandwidthBytesPerSecond: number;
  /** The requested limit that is not set yet. */
  readonly wantsBandwidth?: number | undefined;
  /** Whether the limit is the wish of a client, which no step changes. */
  readonly limitIsOfClient: boolean;
  readonly policySteps: readonly EntryOf<'policy-step'>[];
  /** The other write mode, as requested of QEMU, and as set in it. Undefined: it is that of the start. */
  readonly switched?: 'REQUESTED' | 'SET' | undefined;
  /** The pause of the guest at the deadline. Undefined: none is wanted. */
  readonly guestPause?: 'DUE' | 'HELD' | 'OVER' | undefined;
  /** Whether this service has stopped the guest, or is about to. */
  readonly guestHeld: boolean;
}

export function policyBefore({ bandwidthBytesPerSecond }: Pick<JobOptions, 'bandwidthBytesPerSecond'>): PolicySoFar {
  return { bandwidthBytesPerSecond, limitIsOfClient: false, policySteps: [], guestHeld: false };
}

/** The job without the change that QEMU refuses. */
export const REFUSED = {
  SPEED: { wantsBandwidth: undefined },
  PAUSE: { wantsPaused: undefined },
  WRITE_MODE: { switched: undefined },
};

type PolicyEntry = EntryOf<
  'speed-requested' | 'speed' | 'policy-step' | 'write-mode' | 'guest-held' | 'guest-released'
>;

export function policyAfter(job: PolicySoFar, entry: PolicyEntry): Partial<PolicySoFar> {
  switch (entry.entry) {
    case 'speed-requested':
      return { wantsBandwidth: entry.bandwidthBytesPerSecond, limitIsOfClient: true };
    case 'speed': {
      // A limit that nobody requested here is that of another client.
      const limitIsOfClient = job.limitIsOfClient || job.wantsBandwidth === undefined;
      return { bandwidthBytesPerSecond: entry.bandwidthBytesPerSecond, wantsBandwidth: undefined, limitIsOfClient };
    }
    case 'policy-step':
      return { policySteps: [...job.policySteps, entry], ...begun(entry) };
    case 'write-mode':
      return { switched: 'SET' };
    case 'guest-held':
      return { guestHeld: true, ...(job.guestPause === 'DUE' && { guestPause: 'HELD' }) };
    case 'guest-released':
      return { guestHeld: false, ...(job.guestPause === 'HELD' && { guestPause: 'OVER' }) };
  }
}

/** A lifted limit takes the same way as that of a client. */
function begun({ what, bandwidthBytesPerSecond }: PolicyStep): Partial<PolicySoFar> {
  switch (what) {
    case 'LIMIT':
      return { wantsBandwidth: bandwidthBytesPerSecond };
    case 'BLOCKING':
      return { switched: 'REQUESTED' };
    case 'PAUSE_GUEST':
      return { guestPause: 'DUE' };
    case 'HOLD':
      return {};
  }
}

/** How the guest's writes reach the destination now. From the request for the other mode on, QEMU may have it. */
export function writeModeOf({
  accepted: { options },
  switched,
}: {
  readonly accepted: { readonly options: { readonly writeMode: WriteMode } };
} & Pick<PolicySoFar, 'switched'>): WriteMode {
  return switched === undefined ? options.writeMode : 'BLOCKING';
}
