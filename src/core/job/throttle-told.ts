/** The throttle of a guest, as it is written down. */
import type { Failure } from '../errors.ts';

/** Why the guest is not slowed down any more. */
export type LiftedBecause =
  /** The job is over. */
  | 'OVER'
  /** The longest time of the request is over, or the request is not known: the journal was lost. */
  | 'TIME_IS_UP'
  /** Another client has changed the limit, and it stays as it is. Or the disk is gone. */
  | 'CHANGED'
  /** QEMU does not take it. */
  | 'REFUSED'
  /** The limit ended with QEMU. */
  | 'QEMU_ENDED';

export type ThrottleTold =
  /** Written before QEMU is asked. */
  | { readonly entry: 'throttle-requested'; readonly limitBytesPerSecond: number }
  /** QEMU has set it. */
  | { readonly entry: 'throttled'; readonly limitBytesPerSecond: number }
  /** `hasMark`: a limit without effect stays in QEMU until the job is over. */
  | { readonly entry: 'throttle-lifted'; readonly because: LiftedBecause; readonly hasMark?: true }
  /** For a floor once for each written verdict, for a limit of another client once until that changes. */
  | { readonly entry: 'throttle-not-taken'; readonly failure: Failure };

export function throttleEntryInWords(entry: ThrottleTold): string {
  switch (entry.entry) {
    case 'throttle-requested':
      return `the guest is to write ${entry.limitBytesPerSecond} bytes per second at most, so that the copy ends`;
    case 'throttled':
      return `the guest is slowed down: it writes ${entry.limitBytesPerSecond} bytes per second at most`;
    case 'throttle-not-taken':
      return `the guest is not slowed down: ${entry.failure.text}`;
    case 'throttle-lifted':
      return `the guest is no longer slowed down${LIFTED[entry.because]}`;
  }
}

const LIFTED: Readonly<Record<LiftedBecause, string>> = {
  OVER: '',
  TIME_IS_UP: ': the longest time of the request is over',
  CHANGED: ' by this job: another client has changed the limit of the disk, which stays so',
  REFUSED: ': QEMU refuses the limit',
  QEMU_ENDED: ': QEMU has ended',
};
