/** The pauses of a job, by clients, by QEMU and by this service, and the space that it waits for. */
import type { EntryOf, PauseReason } from './journal-entry.ts';

export interface Pauses {
  readonly pauseReason?: PauseReason | undefined;
  /** The requested pause or resume that is not done yet. */
  readonly wantsPaused?: boolean | undefined;
  /** Whether a client has paused it: it stays paused when there is space again. */
  readonly pausedByClient: boolean;
  /** As last reported. Undefined if nothing was reported, or QEMU has found no space since. */
  readonly space?: EntryOf<'space'> | undefined;
  /** How often QEMU found no space after ENOUGH was reported, since the space was last seen to be used up. */
  readonly spaceRetries: number;
}

export const NEVER_PAUSED: Pauses = { pausedByClient: false, spaceRetries: 0 };

type PauseEntry = EntryOf<'paused' | 'resumed' | 'space' | 'pause-requested' | 'resume-requested'>;

/** The service pauses and resumes a job for its space, too: a request for the opposite stays open then. */
export function pausesAfter(job: Pauses, entry: PauseEntry): Partial<Pauses> {
  const { wantsPaused, space, spaceRetries } = job;
  switch (entry.entry) {
    case 'paused': {
      const isOfClient = entry.reason === 'USER';
      const isInVain = entry.reason === 'NO_SPACE' && space?.level === 'ENOUGH';
      return {
        pauseReason: entry.reason,
        wantsPaused: wantsPaused === false && !isOfClient ? false : undefined,
        pausedByClient: job.pausedByClient || isOfClient,
        ...(isInVain && { space: undefined, spaceRetries: spaceRetries + 1 }),
      };
    }
    case 'resumed': {
      const isWanted = wantsPaused === true;
      return {
        pauseReason: undefined,
        wantsPaused: isWanted ? true : undefined,
        pausedByClient: isWanted,
        // A client has resumed it in spite of the space: it is paused again only after another look.
        ...(space?.level === 'FULL' && { space: undefined }),
      };
    }
    case 'space':
      return { space: entry, spaceRetries: entry.level === 'FULL' ? 0 : spaceRetries };
    case 'pause-requested':
      return { wantsPaused: true, pausedByClient: true };
    case 'resume-requested':
      return { wantsPaused: false, pausedByClient: false, spaceRetries: 0 };
  }
}
