/** job.proto. */
import { END_POLICY, GUEST_THROTTLE } from './end-policy.ts';
import type { Row } from './row.ts';

const REFS: readonly Row[] = [
  [
    'qemu/bad-input.test.ts',
    'a name of two domains: FIELD_INVALID, and their UUIDs work',
    'A name that several domains share is refused with FIELD_INVALID; use the UUID then.',
  ],
  [
    'unit/core/disk/chain.test.ts',
    'takes the first kind of name that fits: id, backend, node, path',
    'The ways to name it are tried in this order; the first that matches exactly one disk counts',
  ],
  [
    'unit/core/disk/chain.test.ts',
    'guesses nothing if an image is open on two disks, and goes on to the kind of name that decides',
    'the first that matches exactly one disk counts',
  ],
  ['qemu/bad-input.test.ts', 'a path that two disks are on', 'and DISK_NOT_FOUND if none does'],
  ['qemu/bad-input.test.ts', 'no name', 'Exactly one of the two names must be given; otherwise FIELD_INVALID.'],
  [
    'qemu/contract-fields.test.ts',
    'an id names the same job for ever, and a disk names the latest one',
    'It always means the same job, also when the disk gets another one.',
    'its active job, or its latest job if it has none',
  ],
  ['qemu/bad-input.test.ts', 'disk without a job', 'Refused with DISK_HAS_NO_JOB if the disk never had a job'],
  [
    'qemu/state-folder.test.ts',
    'forgets jobs that ended long ago, but not those with possible leftovers',
    'or its jobs have been pruned.',
  ],
  ['unit/grpc/answers.test.ts', 'never has the first value of an enum that says so', /^Never sent\.$/],
];

const REQUESTS: readonly Row[] = [
  [
    'qemu/destinations.test.ts',
    'an image with an unknown format, or one that could mislead QEMU, is refused',
    'An image is never treated as raw only because its header is not recognized.',
  ],
  [
    'qemu/destinations.test.ts',
    'a raw image that imitates qcow2 is never opened as qcow2 with COPY_RAW or format RAW',
    'Never probed.',
  ],
  [
    'qemu/contract-fields.test.ts',
    'BLOCKING: a write that the guest is told to be done is at the destination, and in BACKGROUND it need not be',
    'Completes a guest write only when the destination has it too.',
  ],
  [
    'unit/core/disks.test.ts',
    'is accepted by its own name, and by no other',
    'A start that would cause the loss is refused with LOSS_NOT_ACCEPTED unless the request accepts exactly this loss',
  ],
  ['unit/core/rules/start-copy.test.ts', 'a text that is not a loss', /^Refused with FIELD_INVALID\.$/],
  ['unit/core/rules/start-copy.test.ts', 'an NBD export without a server', /^Exactly one must be given; otherwise/],
  ['unit/core/rules/start-copy.test.ts', 'no destination', /^Exactly one must be given; otherwise/],
  [
    'unit/core/rules/start-copy.test.ts',
    'an NBD socket by a relative path',
    'Refused with PATH_NOT_ABSOLUTE otherwise.',
  ],
  ['unit/core/rules/start-copy.test.ts', 'a relative path', 'Refused with PATH_NOT_ABSOLUTE otherwise.'],
  [
    'qemu/contract-fields.test.ts',
    'an export without a name is the default one of its server, and needs no TLS',
    "Empty for the server's default export.",
    'Empty for a connection without TLS.',
  ],
  ['qemu/destinations.test.ts', 'with TLS, if QEMU has the credentials', 'Empty for tcp.host.'],
  [
    'qemu/nbd-refused.test.ts',
    'is reported with what to do, and no job is left',
    'Empty for tcp.host.',
    "The host name in the server's certificate.",
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'a TLS name without TLS',
    'With tls_credentials_id only; otherwise FIELD_INVALID.',
  ],
  ['unit/core/rules/start-copy.test.ts', 'a text that is not an NBD port', 'The port, 1 to 65535.'],
  [
    'unit/grpc/answers.test.ts',
    'that names no NBD port means the registered one',
    '0 means 10809, the registered port of NBD.',
  ],
  [
    'qemu/encrypted.test.ts',
    'is copied to an encrypted destination while the guest writes, and the guest continues there',
    'The key is never sent to this service',
  ],
  [
    'qemu/encrypted.test.ts',
    'must exist in QEMU at the start, whatever the plan was',
    'Refused with SECRET_NOT_FOUND if this QEMU does not have the object',
  ],
  [
    'qemu/encrypted.test.ts',
    'that goes away while the job is being started: all steps are undone',
    'or no longer has it when it opens the destination.',
  ],
  [
    'unit/grpc/answers.test.ts',
    'is read from the name that QEMU gives to the image, and is empty if the name does not have it',
    'Empty only in a Job whose journal was lost',
  ],
];

const DESTINATIONS: readonly Row[] = [
  [
    'qemu/encrypted.test.ts',
    'a reused destination is opened with its secret, and only with it',
    'An encrypted destination is not reused without its secret:',
  ],
  [
    'unit/agent/starts/destination.test.ts',
    'is at the end of its links: out of an allowed folder is refused, into one is made there',
    "Files and devices must be in a folder that the host's configuration allows, with symbolic links resolved",
  ],
  [
    'qemu/destinations.test.ts',
    'an image that a VM has open is refused under each of its names',
    'A destination that any domain or another job uses, under any name, is refused with DESTINATION_IN_USE.',
  ],
  [
    'qemu/destinations.test.ts',
    'two copies at once to two names of one file: one of them is refused',
    'or another job uses, under any name, is refused with DESTINATION_IN_USE',
  ],
  [
    'unit/agent/starts/destination.test.ts',
    'exists if a file with contents exists there, or anything but a plain file',
    'Without reuse_external the file is created, and must not exist; otherwise DESTINATION_EXISTS.',
    'A directory is refused with FIELD_INVALID.',
  ],
  [
    'unit/agent/starts/destination.test.ts',
    'may be a file of zero length, unless a domain has exactly that file open, by whatever name',
    'A regular file of zero length counts as absent',
  ],
  [
    'qemu/copy-matrix.test.ts',
    'a file of zero length is not removed, but is empty again: abort before READY, %s',
    'counts as absent, as with libvirt, but is never removed.',
  ],
  [
    'qemu/destinations.test.ts',
    'a file that does not exist is missing, and not made',
    'With reuse_external the file must exist; otherwise DESTINATION_MISSING.',
  ],
  ['qemu/bad-input.test.ts', 'a directory: FIELD_INVALID', 'A directory is refused with FIELD_INVALID.'],
  [
    'qemu/destinations.test.ts',
    'if it is probed on request, the secret is not opened',
    'A reused file is never opened together with a file that its header names and that is in a folder that is not allowed.',
    'QEMU 10.1 and newer do not write zeroes: with them the backing chain must be complete for any copy, and is kept.',
  ],
  [
    'unit/agent/files/own-chain.test.ts',
    'is refused if an image is missing, if its format is not given, or if the format is not one that is read',
    'If the copy is shallow, the backing chain of the reused file must be complete at the start.',
  ],
  [
    'qemu/destinations.test.ts',
    'a path that is not a device, or is in use by the host, is refused',
    'Refused with NOT_A_BLOCK_DEVICE if the path is not a block device, and with DESTINATION_MISSING',
  ],
  [
    'qemu/destinations.test.ts',
    'raw, named as a file, aborted',
    'The contents are overwritten; the device is never removed.',
  ],
  [
    'qemu/destinations.test.ts',
    'it gets a header only if its reuse was requested, and is probed then',
    'It is formatted (it gets a header) only with reuse_external.',
    'Without reuse_external only RAW is written: another format is refused with DESTINATION_EXISTS.',
    "A raw copy needs a device of exactly the disk's size; otherwise SIZE_MISMATCH.",
  ],
  [
    'qemu/destinations.test.ts',
    'another size is refused with nothing left; a server that is not allowed, too',
    "It must exist and have exactly the disk's size; otherwise EXPORT_SIZE_DIFFERS.",
    "The host's configuration must allow the server, or the folder of its socket; otherwise DESTINATION_NOT_ALLOWED.",
  ],
  [
    'unit/core/plans/copy.test.ts',
    'reaches an NBD export, with TLS if it has credentials',
    'It is never created or formatted.',
  ],
  ['qemu/destinations.test.ts', 'over $over, pivot $pivot', 'UNSPECIFIED format means RAW;'],
  ['unit/core/rules/start-copy.test.ts', 'QCOW2 over NBD', /^QCOW2 is refused with FIELD_INVALID\.$/],
  [
    'qemu/encrypted.test.ts',
    '%s: is copied to an encrypted destination, and the caller need not accept anything',
    'If absent, the destination is not encrypted, and a copy of an encrypted source is refused with LOSS_NOT_ACCEPTED.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'do not include encryption of qcow2, which is the format then',
    'With encryption, the format is QCOW2, also if it is UNSPECIFIED',
  ],
  ['unit/core/rules/start-copy.test.ts', 'encryption over NBD', 'RAW and nbd are refused with FIELD_INVALID.'],
  ['unit/core/rules/start-copy.test.ts', 'encryption of raw', 'RAW and nbd are refused with FIELD_INVALID.'],
  [
    'qemu/encrypted.test.ts',
    'a reused destination is opened with its secret, and only with it',
    'A reused destination must be qcow2 with LUKS, otherwise ENCRYPTION_MISMATCH, and the secret must open it',
  ],
];

const OUTCOMES: readonly Row[] = [
  ['unit/core/job/outcome.test.ts', 'each file that is safe to delete comes with a warning', /^Never empty\.$/],
  [
    'qemu/shared-storage.test.ts',
    'a file that only this host has is named as before',
    'Empty for a file system of this host alone.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'names the revision that it is based on',
    'Part of every job at every moment, also before its end.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'the guest writes to the place where its device was seen, and to no other',
    'It contains only proved facts: everything else is reported as unknown, never guessed.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'the destination is COMPLETE only if QEMU said so or the guest is on it',
    'It contains only proved facts',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'does not say where the guest writes in the instant of a pivot',
    'Empty if it is not known: during a pivot',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    '%s, and another QEMU takes the name and the socket: %s',
    'or if QEMU ended before the job did.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'after an unforced end is a copy as of the last moment it was seen to follow: %s',
    "The time up to which the destination has all of the guest's writes",
    'It is the last time at which the service saw that the copy followed the guest.',
    'If it never saw that, it is the time at which the job started.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'a moment is only that of a COMPLETE copy that is not the live disk',
    'Set only with COMPLETE, and not after a pivot',
  ],
  ['unit/core/job/outcome.test.ts', 'there is evidence', 'Never empty once the job has ended.'],
  [
    'qemu/copy-matrix.test.ts',
    '-$style, $shape to $destination, $ending ($bus)',
    'The image with which the VM must be started next time: guest_writes_to.',
  ],
  [
    'qemu/later-jobs.test.ts',
    'the same after a restart; the events of its entries have not changed',
    "Empty if no such job is known on this host, in a journal entry's event, and while the job runs.",
  ],
  [
    'qemu/contract-fields.test.ts',
    'a job of a plain call has no UUID, time limit, error, request_id, labels or caller, and no end before its end',
    'and while the job runs.',
  ],
];

const JOBS: readonly Row[] = [
  [
    'qemu/contract-fields.test.ts',
    'a job of a plain call has no UUID, time limit, error, request_id, labels or caller, and no end before its end',
    'Absent if there is none.',
    'Empty if QEMU was started without one.',
    'Absent if nothing failed.',
    'Absent before, and for kinds without READY.',
    /^Absent before\.$/,
    'Empty if there was none.',
    'Empty if it had no name, or if an older service started the job.',
  ],
  [
    'unit/core/job/ending.test.ts',
    'FAILED is never the guest seen on the destination',
    'The guest has not left the source.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'after an unforced end is a copy as of the last moment it was seen to follow: %s',
    'After READY the destination is a complete copy, unless the job was ended by force.',
  ],
  [
    'unit/core/job/outcome.test.ts',
    'after a forced end is stale, and our own file may be deleted',
    'unless the job was ended by force.',
  ],
  ['qemu/rebase.test.ts', '-$style: pull to $to', 'The path of the image that becomes the backing image (PULL'],
  ['qemu/commit.test.ts', '-$style: $what', 'that takes the data (COMMIT, ACTIVE_COMMIT)'],
  [
    'qemu/destinations.test.ts',
    'it gets a header only if its reuse was requested, and is probed then',
    'or that backs a shallow copy (COPY; empty for a copy without backing image',
  ],
  ['unit/core/job/job.test.ts', '$name in $state: $after', /^accepted ready pivot concluded STARTING/],
  ['unit/core/job/job.test.ts', '$name in $state is refused', /^accepted ready pivot concluded STARTING/],
  [
    'unit/core/job/ending.test.ts',
    'never a false done: COMPLETED is the guest on the destination, or a finish that QEMU ended without error on the source',
    'Job.error has the reason READY → FAILED the same, later',
  ],
  [
    'unit/agent/every-job-ends.test.ts',
    'every job ends, or waits for a named event: ${COMBINATIONS} combinations',
    'any → UNRESOLVED the result cannot be proved',
  ],
  [
    'unit/agent/journal/job-log.test.ts',
    'takes nothing after the end',
    'COMPLETED, CANCELLED, FAILED and UNRESOLVED are final: no event follows, and the state never changes again.',
  ],
  [
    'unit/core/job/progress.test.ts',
    'caught up without READY is one byte short',
    'The service relies on the status ready of QEMU, and never compares current_bytes with end_bytes.',
  ],
  [
    'unit/core/moves/next-move.test.ts',
    'running: READY, and drained just now',
    'The service relies on the status ready of QEMU',
  ],
  [
    'qemu/lost-journal.test.ts',
    'comes back: its job is known again, with its whole history',
    'Absent if nothing was measured since the service was started',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'has progress in the event of its last revision alone',
    'Absent if nothing was measured since the service was started, and in events of the past.',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'never a lost event: has every revision once and in order, from any revision on, and the end after the last',
    'and are never dropped, merged or reordered, so their revisions have no gap',
  ],
  [
    'qemu/change.test.ts',
    'takes every limit up to 2^63-1 bytes a second, and none beyond: never wrapped, never silently 0',
    'The speed limit in bytes per second, 0 to 2^63-1.',
  ],
  [
    'qemu/change.test.ts',
    'takes a new limit at once, in every phase, and tells watchers',
    'The speed limit in bytes per second, 0 to 2^63-1. 0 means unlimited.',
  ],
  [
    'unit/grpc/answers.test.ts',
    'has no destination of its own for a pull or a commit',
    'Absent for PULL, COMMIT and ACTIVE_COMMIT.',
  ],
  [
    'unit/core/job/ending.test.ts',
    'a success has no failure, and FAILED and UNRESOLVED say why',
    'Absent if nothing failed.',
  ],
  [
    'qemu/contract-fields.test.ts',
    'a pull has no destination, and is never READY',
    'Absent before, and for kinds without READY.',
  ],
  [
    'fleet/fleet.test.ts',
    'a disk of host 2 is copied and pivoted through gateway 1, and the watch continues through gateway 2 when 1 dies',
    'The caller that started the job, as in ServerInfo.caller: from its certificate or its gateway',
  ],
  [
    'unit/grpc/identity.test.ts',
    'is not taken from the headers of any other client',
    'from its certificate or its gateway, never from a request',
  ],
];

const EVENTS: readonly Row[] = [
  [
    'unit/agent/journal/job-log.test.ts',
    'shows an entry to nobody before it is on disk, and never one that is not',
    'Entries are stored before they are sent',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'begins with the job as it is, and then has all that comes',
    'The first message of a watch without after_revision; sent once.',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'that is slow misses progress and nothing else, and then has the latest',
    'Only the latest is kept: a slow reader does not get all of them.',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'has it also while it is woken all the time for nothing',
    'Sent after 15 seconds without another message',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'that comes back after the journal was lost is told so, once, and has all that is known since',
    'Sent at most once, first; the entry oldest_revision follows.',
    'The oldest revision that is kept.',
    'Always correct as after_revision of a later watch.',
  ],
  [
    'unit/fleet/gateway/shared-watch.test.ts',
    'has the revision that was sent to the watcher last: it comes back with that',
    'Always correct as after_revision of a later watch.',
  ],
  [
    'unit/grpc/answers.test.ts',
    'has the oldest revision with COMPACTED, and with nothing else',
    'Only with COMPACTED, otherwise 0.',
  ],
];

const GATES: readonly Row[] = [
  [
    'examples/fenced.test.ts',
    'records the new path, and only then the guest moves',
    'A pivot changes the running QEMU only.',
    'The order for the owner:',
  ],
  ['fault/gate.test.ts', 'a pivot without a record ends in %s', "The default of the job's host (--config-owner);"],
  [
    'unit/core/moves/next-move.test.ts',
    'gate: waits for the record',
    'Without it the pivot is refused with CONFIG_NOT_RECORDED, and a job with on_ready PIVOT waits in READY.',
  ],
  [
    'fault/gate.test.ts',
    'has another gate, and a record of the earlier one does not open it',
    'Each gate has another one: a record of an earlier job, or of an earlier gate of this job, is refused',
  ],
  ['unit/core/job/pivot-gate.test.ts', 'is open', 'Absent while the pivot still needs it.'],
  ['unit/core/rules/abort.test.ts', 'has a record with a token', 'Required, otherwise FIELD_INVALID.'],
  [
    'unit/core/job/pivot-gate.test.ts',
    'is set back without a record: it may have been written',
    "The path to which the VM's configuration must be set back:",
  ],
  [
    'unit/core/job/pivot-gate.test.ts',
    'is not known if QEMU has ended in the pivot',
    'Empty while the job runs, if nothing has to be set back, and if the image of the guest is not known',
  ],
  [
    'unit/core/moves/next-move.test.ts',
    'READY, to be finished: no gate',
    'Set from READY on, and kept after the end, if config_owner is EXTERNAL and the job has a pivot',
  ],
];

const THROTTLES: readonly Row[] = [
  ['fault/throttle.test.ts', 'leaves no limit', 'Absent if the guest is not slowed down by it.'],
];

const SPACE: readonly Row[] = [
  [
    'qemu/space.test.ts',
    'with room it goes on by itself',
    'When there is space again, the service resumes the job by itself;',
  ],
  ['unit/core/moves/space-rows.test.ts', 'resumed by a client in spite of it', 'Resume tries at once.'],
  [
    'unit/core/job/space.test.ts',
    'is the estimate, until another level is reported',
    'Absent if neither is known, as for an NBD export, for a raw block device, and for other kinds than COPY.',
  ],
  [
    'unit/core/moves/space-rows.test.ts',
    'not known, paused: tries again',
    'Absent if they are not known: then ENOUGH means that the service tries again.',
  ],
];

export const JOB: readonly Row[] = [
  ...THROTTLES,
  ...REFS,
  ...REQUESTS,
  ...DESTINATIONS,
  ...OUTCOMES,
  ...GATES,
  ...SPACE,
  ...END_POLICY,
  ...GUEST_THROTTLE,
  ...JOBS,
  ...EVENTS,
];
