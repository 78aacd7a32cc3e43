/** The end policy of a copy: in job.proto, and in block_job_service.proto. */
import type { Row } from './row.ts';

const RULES = 'unit/core/rules/start-copy.test.ts';
const STEPS = 'unit/core/moves/policy-rows.test.ts';
const MOVES = 'unit/core/moves/next-move.test.ts';

export const END_POLICY: readonly Row[] = [
  [
    STEPS,
    'PAUSE_GUEST, and the data under way takes too long',
    'and the data under way to the destination within 2.5 seconds',
  ],
  [STEPS, 'PAUSE_GUEST, and the rest does not fit', 'It does so only if the rest is copied within max_guest_pause'],
  [
    MOVES,
    'ends the job if the pause was too short',
    'Otherwise, and if the rest is not copied in that time after all, it ends the job as ABORT does.',
  ],
  [MOVES, 'waits for a rest that fits, for a while', 'The decision takes up to 10 seconds.'],
  [STEPS, 'the limit is not the reason: the switch at once', 'A step that cannot help is passed over at once.'],
  [STEPS, 'its limit was lifted before', 'Each step is taken at most once.'],
  [STEPS, 'has switched', 'Each step is taken at most once.'],
  [
    RULES,
    'a patience below a second',
    'The time before the first step, and between two steps: 1 second to 1 day, otherwise FIELD_INVALID.',
  ],
  [RULES, 'has a patience of a minute, and ABORT at the deadline, if not said otherwise', 'Absent means 1 minute.'],
  [RULES, 'a negative ceiling', "If the job's own speed limit holds the copy back, the limit is lifted to this one"],
  [STEPS, 'its limit is above the ceiling', 'A limit is never lowered.'],
  [
    STEPS,
    'a caller has set its limit',
    'A limit that a client has set since the start stays as it is. 0 means that the limit stays.',
  ],
  [
    'qemu/end-policy.test.ts',
    'a QEMU that cannot switch refuses the start, and the plan',
    'The request is refused with QEMU_TOO_OLD if this QEMU cannot do it (before 8.2).',
  ],
  [RULES, 'switch_to_blocking that is to FAIL', 'for the same reason on_no_space FAIL is refused (FIELD_INVALID).'],
  [RULES, 'has a patience of a minute, and ABORT at the deadline, if not said otherwise', 'UNSPECIFIED means ABORT.'],
  [
    RULES,
    'HOLD at a deadline that is not there',
    'HOLD and PAUSE_GUEST are refused without a time limit (FIELD_INVALID).',
  ],
  [
    RULES,
    'a longest pause of ',
    'The longest time that the guest is paused by PAUSE_GUEST: 100 milliseconds to 5 seconds, otherwise FIELD_INVALID.',
  ],
  [RULES, 'a longest pause of no pause', 'Required by PAUSE_GUEST, and refused with other values (FIELD_INVALID).'],
  ['unit/core/plans/granularity.test.ts', 'of almost 32 KiB', 'Chooses granularity_bytes before the start'],
  [
    'qemu/end-policy.test.ts',
    'a copy of small writes gets a small granularity, and its plan says so',
    'Plan.notes and JobOptions.granularity_bytes have the result.',
  ],
  ['unit/grpc/remote.test.ts', 'a job that is %s is the same message', 'Absent if the job has none.'],
];

export const ASKED_POLICY: readonly Row[] = [
  [RULES, 'has a patience of a minute, and ABORT at the deadline, if not said otherwise', 'Absent for none.'],
];
