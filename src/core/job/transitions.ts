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
 * running          QEMU has accepted the job: only now is the start answered. A refused start is undone, and the job
 *                  is forgotten.
 * concluded        QEMU has finished the job, and the clean-up is left. For a STARTING job: it was given up. The state stays.
 * ready            QEMU's own ready status, never current == end. QEMU goes ready → standby → ready: READY stays.
 * pivot-requested  by a caller, or by on_ready PIVOT. If the VM's configuration has an external owner, only after
 *                  gate-opened, and with the owner's record: config-recorded, or the token in this entry.
 * cancel-requested a STARTING job stays so until it is known whether QEMU has it: steps that have not begun are undone.
 *                  If it comes too late the job ends as COMPLETED, as after finish-requested (on_ready FINISH).
 * verdict          whether the job will end at the present rates. The state stays.
 * policy-step      a step of the end policy, because it will not. The state stays.
 * throttle-…       the limit on the guest's writes. The state stays. No job ends before its limit is lifted.
 * flushed          only in a pull, or a commit of lower images: before its last step, and after it. The state stays.
 * ended            from any state: a job can fail, or another client can end it, at any time. UNRESOLVED means that
 *                  the end cannot be proved; the outcome says what is known.
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

/** The states in which an entry may be written. `stateAfter` has the state that follows. */
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
  space: IN_QEMU,
  'pause-requested': ['RUNNING', 'READY'],
  'resume-requested': IN_QEMU,
  'speed-requested': IN_QEMU,
  'policy-step': ['RUNNING', 'READY', 'PIVOTING'],
  'write-mode': IN_QEMU,
  'change-refused': IN_QEMU,
  'asked-again': ANY_ACTIVE,
  speed: ANY_ACTIVE,
  'gate-opened': ['READY'],
  'config-recorded': ['READY'],
  'pivot-requested': ['READY'],
  'cancel-requested': ANY_ACTIVE,
  'give-up-requested': ANY_ACTIVE,
  'finish-requested': ['READY'],
  followed: ['CANCELLING'],
  verdict: IN_QEMU,
  'throttle-requested': ['RUNNING', 'READY', 'PIVOTING'],
  throttled: IN_QEMU,
  'throttle-lifted': IN_QEMU,
  'throttle-not-taken': IN_QEMU,
  'guest-held': ['STARTING', 'RUNNING', 'PIVOTING', 'CANCELLING'],
  'guest-released': ANY_ACTIVE,
  flushed: ['RUNNING', 'CANCELLING'],
  'flush-failed': ['RUNNING', 'CANCELLING'],
  concluded: ANY_ACTIVE,
  ended: ANY_ACTIVE,
};

/** `isCancelled`: whether a cancel was requested before. */
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
