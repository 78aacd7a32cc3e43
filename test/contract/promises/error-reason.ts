/** error_reason.proto. */
import type { Row } from './row.ts';

export const ERROR_REASON: readonly Row[] = [
  [
    'unit/core/errors.test.ts',
    'has all violations at once; the first gives the reason and the field',
    'each violation has its own reason, and the ErrorInfo has the reason of the first',
  ],
  ['unit/grpc/bounds.test.ts', 'ten of the errors are reported', 'with up to ten field violations at once'],
  [
    'unit/core/errors.test.ts',
    '%s has the gRPC code that its number and its comment say',
    'No error has the gRPC code UNKNOWN.',
    'The hundreds of each number are the gRPC code',
  ],
  ['unit/core/errors.test.ts', '%s has the documented metadata', '"Keys" are the keys of `metadata`.'],
  [
    'contract/door.test.ts',
    'the watches of a connection are limited, so that it can still make other calls',
    'On each connection a fifth of the calls is reserved for calls that are not watches.',
  ],
  [
    'qemu/contract-fields.test.ts',
    "another client's job below the active image forbids an operation: CHAIN_BUSY",
    'In answers of CheckOperation: a job uses an image of the domain below the active image of a disk.',
  ],
  [
    'qemu/reuse.test.ts',
    'a time limit ends it, too',
    'also the answer of a start if the limit expired during the comparison of verify_reused.',
  ],
  [
    'qemu/reuse.test.ts',
    'it can be cancelled: the start gets that error, and nothing is left',
    'or a start that an Abort ended while it was comparing (verify_reused).',
  ],
  [
    'qemu/bad-input.test.ts',
    'QEMU refuses a step in the middle: the steps before it are undone',
    'After a failed command nothing is changed: the steps before it are undone.',
  ],
  [
    'qemu/sight.test.ts',
    '${PID_NAMESPACE.name}: undoes a start of which QEMU has nothing, and does not say that QEMU has ended',
    'and in the answer of a call that waited for the job.',
  ],
  [
    'qemu/throttle.test.ts',
    'does not slow its guest down if the floor is too high, and says so once',
    'Only in an event: the guest is not slowed down',
  ],
  ['unit/grpc/remote.test.ts', 'has the reason, the words and the fields', 'each violation has its own reason'],
  ['qemu/bad-input.test.ts', '$what: $reason', 'A refused call has changed nothing.'],
  [
    'qemu/interference-jobs.test.ts',
    'cancels a copy whose pivot a caller waits for: that is not a success',
    'And an Abort that waited for a pivot fails with Job.error if the job did not end as requested.',
  ],
  ['unit/core/errors.test.ts', 'has exactly the reasons of the contract', /^Never sent\.$/],
  [
    'qemu/commit.test.ts',
    'invalid commits are refused, and change nothing',
    '`base` must be below `top` (directly below it with SHALLOW), and `top` must not be the lowest image.',
  ],
  [
    'qemu/storage-faults.test.ts',
    'before READY, FAIL: the job has failed, and says that there was no space',
    'so does a job that is running (Job.error)',
  ],
  [
    'qemu/state-folder.test.ts',
    'that is full refuses new jobs, and harms no running one',
    'A start fails with it, and so does a job that is running (Job.error).',
  ],
  [
    'qemu/libvirt-managed.test.ts',
    'is recognized by its %s: it is shown, and no job is started',
    'A start is refused unless the server runs with --allow-libvirt-managed.',
  ],
  [
    'qemu/libvirt-managed.test.ts',
    'with --allow-libvirt-managed a job may move its disk, and then all operations of libvirt are forbidden',
    'CheckOperation forbids an operation on a disk that a job of this service has moved',
  ],
];

/** They promise nothing: they quote libvirt. */
export const ERROR_REASON_DESCRIBES: readonly string[] = [
  'VIR_ERR_INVALID_ARG ("base … must not be NULL").',
  'VIR_ERR_INVALID_ARG ("absolute path must be used …").',
  'VIR_ERR_INVALID_ARG ("granularity must be power of 2").',
  'VIR_ERR_OPERATION_DENIED on a read-only connection, VIR_ERR_ACCESS_DENIED by polkit.',
];
