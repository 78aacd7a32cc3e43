/**
 * A job's states, and which entry of the journal leads from one to the next.
 *
 *             running             ready            pivot-requested          ended
 *  STARTING ──────────► RUNNING ─────────► READY ──────────────────► PIVOTING ───────► COMPLETED
 *     │                    │                 │                          │
 *     │ refused            │ cancel-         │ cancel-, finish-         │ ended
 *     ▼                    ▼ requested       ▼ requested                ▼
 *   FAILED              CANCELLING ─────────────────► CANCELLED       FAILED          UNRESOLVED
 *
 * A pull, or a commit of lower images, goes from RUNNING to COMPLETED by itself.
 *
 * running          QEMU has accepted the job: only now is the start answered. A start that is refused is taken
 *                  back, and the job is forgotten.
 * concluded        QEMU has done with it, and what is left is to clean up. Of a STARTING job: it was given up. The state stays.
 * ready            QEMU's own ready status, never current == end. QEMU goes ready → standby → ready: READY stays.
 * pivot-requested  by a caller, or by on_ready PIVOT.
 * cancel-requested stays STARTING until it is known whether QEMU has the job: what has not begun is taken back. It may come
 *                  too late, and then ends in COMPLETED; finish-requested (on_ready FINISH) ends there too.
 * flushed          of a pull, or a commit of lower images: before its last step, and after it. The state stays.
 * ended            from any state: a job can fail, or be ended by somebody else, wherever it is. UNRESOLVED means
 *                  that what happened cannot be proved; the outcome says what is known.
 */
import type { EntryBody } from './journal-entry.ts';

export type JobState =
  | 'STARTING'
  | 'RUNNING'
  | 'READY'
  | 'PIVOTING'
  | 'CANCELLING'
  | 'COMPLETED'
  | 'CANCELLED'
  | 'FAILED'
  | 'UNRESOLVED';

const IN_QEMU: readonly JobState[] = ['RUNNING', 'READY', 'PIVOTING', 'CANCELLING'];
const ANY_ACTIVE: readonly JobState[] = ['STARTING', ...IN_QEMU];

/** In which states an entry may be written. The state that follows is in `stateAfter`. */
export const ALLOWED: Readonly<Record<EntryBody['entry'], readonly JobState[]>> = {
  accepted: [],
  'step-started': ANY_ACTIVE,
  'step-done': ANY_ACTIVE,
  'step-refused': ANY_ACTIVE,
  'step-unknown': ANY_ACTIVE,
  'undo-started': ANY_ACTIVE,
  'undo-done': ANY_ACTIVE,
  'undo-failed': ANY_ACTIVE,
  refused: ['STARTING'],
  running: ['STARTING'],
  ready: ['RUNNING', 'CANCELLING'],
  paused: IN_QEMU,
  resumed: IN_QEMU,
  'pause-requested': ['RUNNING', 'READY'],
  'resume-requested': IN_QEMU,
  'speed-requested': IN_QEMU,
  'change-refused': IN_QEMU,
  'asked-again': ANY_ACTIVE,
  speed: ANY_ACTIVE,
  'pivot-requested': ['READY'],
  'cancel-requested': ANY_ACTIVE,
  'give-up-requested': ANY_ACTIVE,
  'finish-requested': ['READY'],
  followed: ['CANCELLING'],
  'guest-held': ['STARTING', 'RUNNING', 'PIVOTING', 'CANCELLING'],
  'guest-released': ANY_ACTIVE,
  flushed: ['RUNNING', 'CANCELLING'],
  'flush-failed': ['RUNNING', 'CANCELLING'],
  concluded: ANY_ACTIVE,
  ended: ANY_ACTIVE,
};

/** `isCancelled`: a cancel was asked for before. */
export function stateAfter(state: JobState, entry: EntryBody, isCancelled: boolean): JobState {
  switch (entry.entry) {
    case 'running':
      return isCancelled ? 'CANCELLING' : 'RUNNING';
    case 'ready':
      return state === 'RUNNING' ? 'READY' : state;
    case 'pivot-requested':
      return 'PIVOTING';
    case 'cancel-requested':
      return state === 'STARTING' ? state : 'CANCELLING';
    case 'finish-requested':
      return 'CANCELLING';
    case 'refused':
      return 'FAILED';
    case 'ended':
      return entry.state;
    default:
      return state;
  }
}
