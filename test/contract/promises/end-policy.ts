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
  [STEPS, 'its limit was lifted before', 'Each step is taken at most once, except guest_throttle.'],
  [
    STEPS,
    'the limit was lifted: the switch before the throttle',
    'The speed limit comes before the write mode, and guest_throttle is the last.',
  ],
  [STEPS, 'has switched', 'Each step is taken at most once, except guest_throttle.'],
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
    'gets a granularity that fits the small writes of its guest, and ends; its plan says so',
    'Plan.notes and JobOptions.granularity_bytes have the result.',
  ],
  ['unit/grpc/remote.test.ts', 'a job that is %s is the same message', 'Absent if the job has none.'],
];

export const GUEST_THROTTLE: readonly Row[] = [
  [
    'unit/core/rules/end-policy.test.ts',
    'is refused with %s',
    'The guest may always write this many bytes per second',
    'For how long the guest is slowed down at most, in one job',
  ],
  [
    'unit/core/rules/end-policy.test.ts',
    'is refused with write mode BLOCKING if it slows the guest down',
    'Refused with write_mode BLOCKING (FIELD_INVALID)',
  ],
  [
    'unit/core/job/guest-throttle.test.ts',
    'does not exist without a request for it',
    'Absent: the guest is never slowed down.',
  ],
  [
    'unit/core/job/guest-throttle.test.ts',
    'lets the copy end by its model, with a margin',
    'Only writes are slowed down, and only as much as the copy needs',
  ],
  [
    'unit/core/job/guest-throttle.test.ts',
    'the same floor, with other numbers',
    'the guest is not slowed down, and an event says so, once for each written verdict.',
  ],
  [
    'unit/agent/job/sampler.test.ts',
    'tries to slow a guest down after each patience, although %s',
    'It is tried again after each further `patience`.',
    'an event says so when that limit is new, and it is tried again after each further `patience`.',
  ],
  [
    'fault/throttle.test.ts',
    'a limit of a job that was given up is a leftover, and is taken away when QEMU is back',
    'Only if QEMU does not answer when the job is given up, the limit stays until QEMU answers again',
  ],
  [
    'fault/throttle.test.ts',
    'is refused if another client limits the disk',
    'A disk that already has a limit of another client is refused with GUEST_LIMIT_SHARED',
  ],
  [
    'qemu/throttle.test.ts',
    'slows its guest down no longer than it may, and the copy goes on',
    'The time includes those in which the service was down, but it is only checked while the service runs.',
  ],
];

export const ASKED_POLICY: readonly Row[] = [
  [RULES, 'has a patience of a minute, and ABORT at the deadline, if not said otherwise', 'Absent for none.'],
];
