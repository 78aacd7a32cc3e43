/** block_job_service.proto. */
import { ASKED_POLICY } from './end-policy.ts';
import type { Row } from './row.ts';

const ALL_CALLS: readonly Row[] = [
  [
    'unit/core/rules/start-copy.test.ts',
    'are reported all at once, in the order of the fields',
    'A starting call reports all its invalid arguments together',
  ],
  [
    'unit/core/rules/rebase.test.ts',
    'are reported at once',
    'A starting call reports all its invalid arguments together',
  ],
  [
    'unit/core/rules/commit.test.ts',
    'errors are reported at once',
    'A starting call reports all its invalid arguments together',
  ],
  ['qemu/bad-input.test.ts', '$what: $reason', 'A refused call has changed nothing and left nothing behind.'],
  [
    'qemu/any-request.test.ts',
    'has a typed answer that is not a bug, and leaves nothing behind',
    'A refused call has changed nothing and left nothing behind.',
  ],
  ['qemu/bad-input.test.ts', 'all errors are reported at once', 'is a BadRequest field violation'],
  ['unit/grpc/status.test.ts', 'has the first ten of the fields that are wrong', 'an error has at most 10.'],
  [
    'unit/client/calls.test.ts',
    'that was lost with the service may have happened',
    'A call that fails with UNAVAILABLE may have had an effect',
  ],
  [
    'qemu/interference-jobs.test.ts',
    'cancels a copy whose pivot a caller waits for: that is not a success',
    'An Abort with pivot that waits may fail with the error of the job.',
    'With pivot, it answers OK only if the job is COMPLETED.',
  ],
  [
    'fault/oracle.test.ts',
    'objects that do not exist, and objects of others',
    'each call answers as if the domain did not exist',
  ],
  [
    'qemu/hung-folder.test.ts',
    'copies to a folder that hangs: jobs of another VM start and end, all can be asked for',
    'A read never waits until a write is answered.',
  ],
  [
    'unit/agent/qemu/formats.test.ts',
    'nothing waits for longer than five seconds, if not said otherwise',
    'waits for the image, at most 5 seconds',
  ],
  [
    'contract/server.test.ts',
    'a message above 160 KiB is refused, and in a smaller one a text that is longer than it may be',
    'A longer text or list is refused with FIELD_INVALID before any other check.',
    'A longer request is refused with RESOURCE_EXHAUSTED',
  ],
  [
    'unit/grpc/bounds.test.ts',
    'the contract says how long a request may be, and how many calls and watches a connection may have',
    'A request has at most 163840 bytes in total',
    'A connection may have 500 calls at a time by default',
  ],
  [
    'contract/door.test.ts',
    'the number at a time on one connection is limited, and none is lost',
    'Further calls on the connection wait in the client.',
  ],
  [
    'contract/door.test.ts',
    'the watches of a connection are limited, so that it can still make other calls',
    'refused with TOO_MANY_CALLS.',
  ],
  [
    'contract/door.test.ts',
    'beyond those of one address are refused, and are served when there is room',
    'An address and the server have limits too: a call beyond them is refused with TOO_MANY_CALLS.',
  ],
  ['contract/proto.test.ts', 'breaks no client of the released one', 'Existing ones keep their names, numbers and'],
  [
    'qemu/request-id.test.ts',
    '1,000 StartCopys with one id from 50 clients: one job',
    'It names one intended action, so that a client may repeat the write.',
    'The same id with another body is refused with REQUEST_ID_REUSED',
  ],
  ['unit/core/rules/start-copy.test.ts', 'a request id that is too long', 'It has 1 to 128 printable ASCII characters'],
  [
    'unit/agent/job/request-ids.test.ts',
    'an id that is in use just now is in use for its caller alone',
    'a repetition with the same body waits for the same job',
    'another body is refused with REQUEST_ID_IN_USE.',
    'Each caller has its own ids.',
  ],
  [
    'unit/core/job/retention.test.ts',
    'are forgotten when there are too many: the oldest, and none of the last day',
    'The service keeps an id as long as the job of the call',
  ],
  [
    'qemu/request-id.test.ts',
    'holds for every kind of start, across a crash of the service, and when the job has ended',
    'A repetition with the same id and the same body returns the job of the first call',
    'until at least 24 hours after the end of the job, also across restarts.',
  ],
  [
    'qemu/promises.test.ts',
    'a repetition without an id is a second job, and a watch by the disk stays with the first',
    'An empty id gives no protection',
    'After the end of the job, a repetition may start a second job.',
    'Empty to start with any plan.',
    'the watch stays with the job that the disk has at the start',
  ],
  [
    'qemu/promises.test.ts',
    'a Reclaim keeps no id: with another body it is another action',
    'Reclaim may be repeated without an id; the service does not keep its ids.',
    'It is not kept: a repetition with the same id looks again.',
  ],
  [
    'qemu/plans.test.ts',
    'of $what changes nothing, and matches the later job',
    'the call runs every check, changes nothing',
    'OK means that the job could have started at that moment.',
  ],
  ['qemu/plans.test.ts', 'of a start that would be refused is refused', 'OK means that the job could have started'],
  [
    'qemu/promises.test.ts',
    'a read changes nothing, and says the same when it is repeated',
    'Changes nothing; may be repeated.',
  ],
];

const STARTS: readonly Row[] = [
  [
    'qemu/space.test.ts',
    'a start that does not fit is refused with both numbers, and leaves nothing',
    'Otherwise SPACE_LOW, for the start and for Abort with pivot.',
  ],
  [
    'qemu/space.test.ts',
    'a pivot that leaves the guest without room is refused',
    'Otherwise SPACE_LOW, for the start and for Abort with pivot.',
  ],
  [
    'qemu/bad-input.test.ts',
    'QEMU refuses a step in the middle: the steps before it are undone',
    'If QEMU refuses the job, the call is refused.',
  ],
  [
    'qemu/copy-matrix.test.ts',
    '-$style, $shape to $destination, $ending ($bus)',
    'If the job ends before READY, the service removes the destination file that the job made.',
    'If the job ends after READY, it keeps the file.',
    'After READY, the destination is kept: it is a complete copy as of Outcome.as_of.',
    'Without pivot, the guest stays on the source.',
  ],
  [
    'qemu/leftovers.test.ts',
    'the copy of a QEMU that died is not removed: the guest may have moved to it',
    'But it keeps the file if it cannot prove that the guest is on the source',
    'Empty for all domains, also those that are gone.',
  ],
  [
    'qemu/copy-matrix.test.ts',
    'a file of zero length is not removed, but is empty again: abort before READY, %s',
    'It never removes a destination that the job did not make.',
  ],
  [
    'qemu/bad-input.test.ts',
    'a second job on the disk, a pivot before READY, a job that has ended',
    'a repetition is refused with BLOCK_COPY_ACTIVE while the job runs',
    'Before READY, a pivot is refused with JOB_NOT_READY.',
  ],
  [
    'qemu/rebase.test.ts',
    '-$style: COPY with flags $named into $into, pivot $pivot',
    "COPY created in snap2's format, no backing file: the whole chain, flattened",
    'COPY, REUSE_EXT, SHALLOW, COPY_RAW exists, raw, contents equal to snap1',
    'COPY, REUSE_EXT, COPY_RAW exists, raw, never probed: the whole chain',
    'Copies the active image only.',
  ],
  [
    'qemu/rebase.test.ts',
    '-%s: a whole chain moves to another folder, and the guest with it',
    'Its own backing file name is kept, also a relative one, and used after the pivot.',
    'The VM must be started next time with the image that Outcome.next_start_path names.',
  ],
  [
    'qemu/rebase-sweep.test.ts',
    '$source to $kind.name',
    'Source raw: created raw, that single file',
    'exists, raw, contents equal to snap1, never probed',
    'A copy needs SHALLOW, neither REUSE_EXT nor COPY_RAW, and a source that has a backing image',
    'Demands that `base` is a block device; otherwise NOT_A_BLOCK_DEVICE.',
    'A device gets no header without REUSE_EXT',
  ],
  [
    'qemu/destinations.test.ts',
    'a raw image that imitates qcow2 is never opened as qcow2 with COPY_RAW or format RAW',
    'A raw destination is never probed.',
  ],
  [
    'qemu/destinations.test.ts',
    'it gets a header only if its reuse was requested, and is probed then',
    'A device gets no header without REUSE_EXT',
  ],
  [
    'qemu/destinations.test.ts',
    'shallow into raw is refused; a relative name is, too, if no name is written',
    'A created raw destination is refused with SHALLOW_INTO_RAW, unless the source is raw too.',
    'Needs shallow, a destination that is created and not raw, and a source that has a backing image',
  ],
  [
    'qemu/reuse.test.ts',
    'an image that cannot show the contents below the active one is refused, and nothing is touched',
    "it must already have the same contents as the source's backing image.",
    'It refuses a destination that obviously has other contents with REUSED_UNLIKE',
  ],
  [
    'qemu/reuse.test.ts',
    'over %s it depends on the caller’s word, and the old image is not called safe to delete',
    'Outcome.safe_to_delete does not list the source.',
  ],
  [
    'qemu/reuse.test.ts',
    'a difference of one sector is found, at byte %i, in each of three places',
    'If they differ, the call is refused with REUSED_DIFFERS, which names the first sector that differs.',
  ],
  [
    'qemu/reuse.test.ts',
    'a service that is restarted by %s undoes the start',
    'A restart of the service ends it with VERIFY_BROKEN_OFF, and the start is undone.',
  ],
  [
    'qemu/reuse.test.ts',
    'it can be cancelled: the start gets that error, and nothing is left',
    'The call that started it fails with JOB_ENDED.',
  ],
  [
    'qemu/promises.test.ts',
    'a comparison is refused where QEMU has no driver quorum',
    'The comparison needs the driver quorum, which some vendors leave out of their QEMU; otherwise QEMU_TOO_OLD.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'a comparison with what is made',
    'Needs shallow, and reuse_external or nbd; otherwise FIELD_INVALID.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'do not include a buffer that is too small for QEMU: it is raised',
    '0 means 16 MiB.',
    'A smaller value is raised to 16 MiB',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'BLOCKING that is to FAIL',
    'FAIL is refused with write_mode BLOCKING (FIELD_INVALID):',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'a time limit beyond 30 days',
    '1 second to 30 days, otherwise FIELD_INVALID.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'has a default for all that was not given, and leaves the format to the source',
    'Absent for no limit.',
  ],
  [
    'qemu/destinations.test.ts',
    'a time limit that is kept changes nothing; with HOLD it is for READY only',
    'With on_ready HOLD, the job must be READY within this time.',
    'With PIVOT or FINISH, it must have ended.',
  ],
  [
    'qemu/reuse.test.ts',
    'a time limit ends it, too',
    'The time_limit begins with the comparison, and also ends it; the call then fails with TIME_LIMIT_REACHED.',
  ],
  [
    'qemu/clock.test.ts',
    '%s ends no job with a time limit, and lets none be forgotten',
    'The service counts it with a clock that nobody can set',
  ],
  ['unit/core/job/ending.test.ts', 'is CANCELLED, and says so', 'CANCELLED, with the error TIME_LIMIT_REACHED.'],
  [
    'qemu/callers-that-leave.test.ts',
    'during StartCopy: the copy starts all the same',
    'The deadline of a call is different: it never touches a job.',
    'If the client disconnects while the job is being started, the start continues.',
  ],
  [
    'unit/core/disks.test.ts',
    'is accepted by its own name, and by no other',
    'A start that would cause another loss is refused with LOSS_NOT_ACCEPTED',
  ],
  [
    'unit/core/rules/labels.test.ts',
    '%s = %s: %s',
    'The labels of the job, in the form of Kubernetes labels; otherwise FIELD_INVALID.',
    'A value is such a name, or empty.',
  ],
];

const REBASE_AND_COMMIT: readonly Row[] = [
  [
    'unit/core/rules/rebase.test.ts',
    'that nobody knows are refused',
    'a sum of bits and an unknown value are refused with FIELD_INVALID',
  ],
  [
    'unit/core/rules/commit.test.ts',
    'a flag that is repeated counts once',
    'a sum of bits and an unknown value are refused with FIELD_INVALID',
    /^Otherwise BANDWIDTH_OUT_OF_RANGE\. 0 means unlimited\.$/,
  ],
  [
    'unit/core/rules/rebase.test.ts',
    'count once, however often they are given, and in any order',
    'A repeated flag counts once.',
  ],
  ['unit/core/rules/commit.test.ts', 'a flag that is repeated counts once', 'A repeated flag counts once.'],
  [
    'qemu/rebase.test.ts',
    'invalid pulls are refused',
    'SHALLOW, REUSE_EXT, COPY_RAW and COPY_DEV without COPY are refused with FLAG_REQUIRES_COPY.',
  ],
  ['qemu/rebase.test.ts', '-$style: pull to $to', 'Empty to flatten the disk.'],
  [
    'unit/core/rules/rebase.test.ts',
    'must be given for a copy, and absolute; for a pull it may be missing, but not with RELATIVE',
    'BASE_REQUIRED if empty, PATH_NOT_ABSOLUTE if relative.',
  ],
  [
    'unit/core/rules/rebase.test.ts',
    'goes up to 2^43-1 MiB or 2^63-1 bytes, is refused beyond, and never wraps or becomes none',
    'Otherwise BANDWIDTH_OUT_OF_RANGE; a large value never becomes a small one.',
  ],
  [
    'qemu/commit.test.ts',
    'invalid commits are refused, and change nothing',
    'If `base` is given too, it must be that image; otherwise BASE_NOT_IN_CHAIN.',
    'Without it the active image is refused with FIELD_INVALID.',
    'It must be below `top`; otherwise BASE_NOT_IN_CHAIN.',
    'Empty for the active image, which needs ACTIVE.',
    'It must have a backing image; otherwise BASE_NOT_IN_CHAIN.',
  ],
  [
    'qemu/commit.test.ts',
    '-$style: $what',
    "Empty for the chain's last image",
    'A commit of images below the active one ends by itself in COMPLETED.',
  ],
  [
    'qemu/commit.test.ts',
    'by %s: nothing is committed into it, and copies continue',
    'It must not be used by another disk or another domain; otherwise DESTINATION_IN_USE.',
  ],
  [
    'qemu/commit.test.ts',
    'an image that another VM has opened meanwhile is not deleted',
    'Deletes the committed images after success, but not those that a known domain uses.',
  ],
  [
    'qemu/commit.test.ts',
    '-$style: the active image $what',
    'The VM must be started next time with the image that Outcome.next_start_path names.',
  ],
  [
    'qemu/promises.test.ts',
    'a commit deletes nothing outside the allowed folders, and fills no image of another disk',
    'The images must be in allowed folders; otherwise DESTINATION_NOT_ALLOWED.',
    'It must not be used by another disk or another domain; otherwise DESTINATION_IN_USE.',
  ],
  ['qemu/promises.test.ts', 'a commit fills only raw and qcow2', 'It must be raw or qcow2; otherwise FORMAT_UNKNOWN.'],
];

const PLANS: readonly Row[] = [
  [
    'qemu/plans.test.ts',
    'of $what changes nothing, and matches the later job',
    'Absent for PULL, COMMIT and ACTIVE_COMMIT.',
    'The steps of all phases, in order.',
    'equal plans have equal etags',
    'Empty if the exact command is only known when it is run.',
    'Empty if there is nothing to undo.',
    /^Is never sent\.$/,
  ],
  [
    'fault/start-steps.test.ts',
    'the connection is lost before $command, number $nth, is executed',
    'It does no harm if the step never happened.',
  ],
];

const CHANGES_AND_ENDS: readonly Row[] = [
  ['unit/core/rules/abort.test.ts', 'records nothing without a pivot', 'Needs pivot; otherwise FIELD_INVALID.'],
  ['unit/core/rules/abort.test.ts', 'does not only record nothing', 'Needs pivot and record; otherwise FIELD_INVALID.'],
  [
    'unit/agent/job/request-end.test.ts',
    'with a record is refused if the job has no gate',
    'A record that does not fit the gate of the job is refused with CONFIG_RECORD_STALE',
  ],
  [
    'qemu/change.test.ts',
    'takes a new limit at once, in every phase, and tells watchers',
    'Answers when QEMU has the limit.',
    'Idempotent: setting the same speed again changes nothing.',
  ],
  [
    'unit/agent/job/request-change.test.ts',
    'is answered at once, and the same when it is repeated after its end and after a restart',
    'A repetition with the same request_id is answered as',
  ],
  [
    'qemu/change.test.ts',
    'is paused and resumed, and a repeated request changes nothing',
    'Idempotent: a paused job stays paused.',
    'Idempotent: a job that is not paused continues.',
  ],
  [
    'qemu/change.test.ts',
    'that waits for space goes on when there is some',
    'If the cause still exists, the job pauses again.',
  ],
  [
    'unit/core/moves/next-move.test.ts',
    'a job that is paused is resumed on request, or for its end',
    'If a client has paused a READY job, the job is resumed first',
  ],
  [
    'unit/core/moves/next-move.test.ts',
    'cancelled after READY, and out of space since: by force, as QEMU refuses a soft end',
    'A job that waits for space or for storage is cancelled as with `force`',
  ],
  [
    'unit/agent/job/request-end.test.ts',
    'with pivot fails with the error of the job, or with JOB_ENDED if it has none',
    'Otherwise it fails with the error in Job.error.',
    'If the job was cancelled and has no error, it fails with JOB_ENDED.',
  ],
  [
    'unit/agent/job/request-end.test.ts',
    'without force is refused during a pivot',
    'An Abort without `force` and without pivot is refused with JOB_ENDING during a pivot',
  ],
  [
    'unit/agent/job/request-end.test.ts',
    'with pivot is refused while the job is being cancelled',
    'An Abort with pivot is refused with JOB_ENDING while the job is being cancelled.',
  ],
  [
    'unit/core/moves/memory.test.ts',
    'is given up half a minute after its end by force was requested, and after the last answer of QEMU',
    'only an Abort with `force` gives the job up then',
    'does not answer for 30 seconds, counted from the Abort at the earliest, the service gives the job up:',
  ],
  [
    'qemu/sight.test.ts',
    'and its QEMU does not answer: by force its jobs are given up, and cancelled when QEMU is back',
    'If QEMU does not answer, no step can be undone',
    'the job ends with that result',
  ],
  [
    'qemu/request-id.test.ts',
    'of an Abort, a SetSpeed and a Pause: later changes stay',
    'Without a request_id, a repetition after the end is refused with JOB_ENDED.',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'async Abort answers at once, and the job ends as requested',
    'The call answers when the request is in the journal, and does not wait for the end of the job.',
  ],
];

const LISTS: readonly Row[] = [
  [
    'contract/block-jobs.test.ts',
    'domains, their disks, jobs and leftovers are listed',
    'newest first by create_time',
    'Empty for all domains.',
  ],
  [
    'unit/core/rules/list.test.ts',
    'filters by states, all for none, and refuses one that it does not know',
    'Empty for all states.',
  ],
  [
    'unit/core/rules/labels.test.ts',
    'match if all requested ones match',
    /^(?:Lists|Watches) only jobs (?:that have all of these labels|with this Job\.created_by)\.$/,
    'Empty for jobs with any labels.',
    'Empty for jobs of any caller.',
  ],
  [
    'unit/core/rules/labels.test.ts',
    'belong to a domain, by name or UUID',
    'Watches only jobs of this domain, by name or UUID',
  ],
  [
    'qemu/foreign-jobs.test.ts',
    '$type is shown as QEMU reports it, and cannot be ended here',
    'no call of this service ends or changes one',
    'As JobRef.job_id it is refused with JOB_NOT_FOUND.',
    'The disk is empty if it is not known',
    'Empty if it did not fail, or is not over.',
  ],
  [
    'qemu/foreign-jobs.test.ts',
    'that has failed is shown with its error, until it is dismissed',
    'Empty if it did not fail, or is not over.',
  ],
  [
    'qemu/foreign-jobs.test.ts',
    'is not known if QEMU does not answer, and the answer says so; if QEMU has ended there is none',
    'The domains whose QEMU did not answer within one second',
    'Empty on pages without foreign jobs.',
  ],
  [
    'unit/core/foreign-job.test.ts',
    'is on the one disk whose images it uses, and on none if it uses those of several',
    'The disk is empty if it is not known',
  ],
  ['unit/grpc/remote.test.ts', 'foreign jobs, in the words of QEMU', 'Empty if QEMU was started without one.'],
  [
    'qemu/libvirt-managed.test.ts',
    'is recognized by its %s: it is shown, and no job is started',
    'True if libvirt manages the VM',
  ],
  [
    'unit/core/foreign-job.test.ts',
    'foreign jobs of several places are in the order of host, domain and id, and each domain is named once',
    'ordered by host, domain and id',
  ],
  [
    'unit/core/rules/list.test.ts',
    'has foreign jobs on its first page, unless ended jobs alone are asked for',
    'The list is empty on later pages, and if state_filter names only states of ended jobs.',
  ],
  ['qemu/promises.test.ts', 'a single host has no unreachable hosts', 'Empty on a single host.'],
];

const WATCHES: readonly Row[] = [
  [
    'qemu/bad-input.test.ts',
    'it was killed',
    'But QEMU must answer for a job that is named by its disk; otherwise QEMU_UNREACHABLE.',
    'and with QEMU_UNREACHABLE if the job is named by its disk and QEMU does not answer.',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'a hanging QEMU does not hide its jobs: GetInfo and ListJobs answer',
    'Answers even if QEMU does not',
  ],
  [
    'fault/tenants.test.ts',
    'a watch ends when its caller is removed from the policy, as if the job did not exist',
    'It ends with JOB_NOT_FOUND when the policy does not let the caller read the domain any more.',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'begins with the job as it is, and then has all that comes',
    'Absent to begin with a SNAPSHOT.',
  ],
  [
    'unit/agent/desk/watched-job.test.ts',
    'that is slow misses progress and nothing else, and then has the latest',
    'Only the latest PROGRESS is kept.',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'begins with the existing jobs, says so, and continues with each entry of them and of new ones',
    'From then on every journal entry of every job is one event, in order within a job.',
    'Empty to begin with a snapshot.',
    'Empty for all domains.',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'starts again, and says so, after a position of another order, and after one that is too old',
    'If a journal no longer has them',
  ],
  [
    'unit/access/seen-jobs.test.ts',
    'continues after its position with the same rights, and starts again with others',
    'If a journal no longer has them',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'loses nothing for a reader that is slower than all that is kept in memory',
    'The stream reports each gap.',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'has the latest progress of a job alone, for a reader that was slow',
    'Only the latest PROGRESS of each job is kept.',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'begins with nothing of a domain that does not exist yet, and has its jobs as soon as there are some',
    'it need not exist yet',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'says which jobs are starting, again when one of them has failed',
    'If the watcher knows a job as STARTING and it is not in this list, its start was refused',
  ],
  [
    'unit/agent/desk/host-jobs.test.ts',
    'sends a heartbeat after 15 seconds, with a later position',
    'Nothing happened for 15 seconds.',
  ],
  [
    'unit/fleet/gateway/fleet-watch.test.ts',
    'names a host that does not answer, and again when it is back, with the missed events, each once',
    'When it is back, its missed entries come without a gap',
  ],
  [
    'qemu/promises.test.ts',
    'the end of a watch of all jobs, or its deadline, touches no job; its domain need not exist',
    'Closing a watch, or its deadline, never touches a job.',
    'Empty if not compacted.',
  ],
  [
    'unit/grpc/resume-token.test.ts',
    'is valid for the same filters, in any order of labels',
    'The three filters must be the same; otherwise FIELD_INVALID.',
  ],
  [
    'unit/grpc/resume-token.test.ts',
    'is in each message of a small fleet; in a large one in every hundredth, and when it matters',
    'If it is empty, the last one before it stays valid.',
    'A token of more than 1024 bytes is in `synced`, in `heartbeat` and at least in every hundredth message.',
  ],
  [
    'unit/grpc/resume-token.test.ts',
    'is never longer than a request may have it: hosts that do not fit start again with a snapshot',
    'and is at most 131072 bytes: a host for which it has no room begins again',
  ],
  [
    'unit/watch/encodings.test.ts',
    'happens once at the agent and once at a gateway, for all watchers together',
    'is encoded once for all watchers',
  ],
];

const LEFTOVERS: readonly Row[] = [
  [
    'qemu/leftovers.test.ts',
    'the file of a copy by force after READY: listed, and removed on request',
    'Idempotent: a leftover that is gone already counts as reclaimed.',
    'If not set, the call reports what it would do, and removes nothing.',
    'After READY, the destination is STALE then.',
    'If it is gone already, its id alone.',
  ],
  [
    'qemu/leftovers.test.ts',
    'nodes and jobs that an earlier service made, and that no journal knows',
    'Empty if it can be removed.',
    'Absent if it is not known.',
    /^Is never sent\.$/,
  ],
  [
    'qemu/leftovers.test.ts',
    'in a QEMU that does not answer still exist',
    'Absent if reclaimed.',
    'Nodes and jobs in a QEMU that does not answer within one second are missing.',
  ],
  ['qemu/bad-input.test.ts', 'Reclaim: %s', 'A text that is not a Leftover.id is refused with FIELD_INVALID too.'],
  [
    'qemu/leftovers.test.ts',
    'jobs that end as requested have none',
    'The result for each id, in the order of the request.',
  ],
];

export const BLOCK_JOB_SERVICE: readonly Row[] = [
  ...ALL_CALLS,
  ...STARTS,
  ...ASKED_POLICY,
  ...REBASE_AND_COMMIT,
  ...PLANS,
  ...CHANGES_AND_ENDS,
  ...LISTS,
  ...WATCHES,
  ...LEFTOVERS,
];
