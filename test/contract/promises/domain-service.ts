/** domain_service.proto and server_service.proto. */
import type { Row } from './row.ts';

export const DOMAIN_SERVICE: readonly Row[] = [
  [
    'unit/core/calls.test.ts',
    '$rpc operates if it has a request_id, and only then',
    'All calls only read, and may be repeated.',
    'Changes nothing; may be repeated.',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'during GetInfo and WatchJob: the job goes on',
    'A client that leaves does not affect them: its deadline or disconnect ends the answer and never touches a job.',
  ],
  [
    'contract/server.test.ts',
    'a client that vanishes aborts the signal of its call',
    'its deadline or disconnect ends the answer and never touches a job',
  ],
  [
    'qemu/domains.test.ts',
    'the list is by name, in pages',
    'Lists the domains without their disks, ordered by name.',
    'The domains, ordered by name, without their disks.',
  ],
  [
    'qemu/domains.test.ts',
    'is listed, with its properties',
    'Empty in ListDomains.',
    'Absent if it answers.',
    'without their disks',
  ],
  [
    'qemu/check-operation.test.ts',
    'an invalid question is refused with every wrong field',
    'For the other operations it makes no difference, but it must name a disk of the domain if it is set.',
    /^Refused with FIELD_INVALID\.$/,
  ],
  [
    'qemu/check-operation.test.ts',
    'operations that move or need it are forbidden, and none once the job has ended',
    'For SNAPSHOT, absent means all disks.',
  ],
  [
    'contract/block-jobs.test.ts',
    'an operation that the running copy forbids is refused, and allowed after the copy',
    'Empty if it is allowed.',
  ],
  [
    'qemu/domains.test.ts',
    'a QEMU without a name and a UUID is named by its socket',
    'Empty if QEMU was started without one.',
  ],
  [
    'unit/core/disk/chain.test.ts',
    'are those of devices, each with its backend, and none for a drive without a device',
    "The disks in QEMU's order, including those without a medium.",
  ],
  [
    'unit/core/disk/chain.test.ts',
    'are known by device, have no backend, and exist without a medium',
    'Empty if the VM was started with -blockdev.',
  ],
  [
    'unit/grpc/answers.test.ts',
    'has what QEMU reports of a domain, and nothing where it reports nothing',
    'Empty if there is no medium.',
    'Empty if it is not known.',
    'Empty if there is none.',
    'Empty if it is not recorded.',
  ],
  [
    'qemu/domains.test.ts',
    'disk on %s: each of its names finds it, and its job is shown',
    'The job that runs on the disk.',
    'Absent if there is none.',
  ],
  [
    'qemu/contract-fields.test.ts',
    'the bytes on disk of an image are absent where QEMU does not report them',
    'Absent if QEMU does not report them.',
  ],
  [
    'qemu/domains.test.ts',
    'disk on %s: its chain with formats, sizes and nodes',
    'True if QEMU has opened it read-only.',
  ],
  [
    'contract/block-jobs.test.ts',
    'domains, their disks, jobs and leftovers are listed',
    'Always empty on a single host.',
  ],
  ['fleet/fleet.test.ts', 'lists cover the whole fleet, and name the hosts that do not answer', 'Empty for all hosts.'],
];

export const SERVER_SERVICE: readonly Row[] = [
  ['unit/grpc/answers.test.ts', 'never has the first value of an enum that says so', 'Never sent.'],
  [
    'fleet/fleet.test.ts',
    "each says which program it is, and the caller's name if the caller is known",
    'The call only reads, and may be repeated.',
    'Changes nothing; may be repeated.',
    'The call may fail with FIELD_INVALID (the message cannot be decoded), CALLER_UNKNOWN, CALLER_NOT_ALLOWED',
    "The caller's name, as in the policy and the audit log",
  ],
  [
    'contract/server.test.ts',
    'bytes that are not a message: FIELD_INVALID, from every rpc',
    'The call may fail with FIELD_INVALID (the message cannot be decoded)',
  ],
  [
    'unit/access/policy.test.ts',
    'admits each caller that the policy names, with whatever rights',
    'Allowed for every caller that the policy names, for any domain; fails with CALLER_NOT_ALLOWED for others.',
  ],
  [
    'unit/grpc/identity.test.ts',
    'is the name from a gateway, or that of the gateway itself',
    'or the name that a gateway passed on',
  ],
  [
    'unit/grpc/identity.test.ts',
    'the names in a certificate',
    'the SPIFFE id, otherwise the DNS name of its certificate',
  ],
  [
    'unit/grpc/identity.test.ts',
    'is the name in its certificate, and undefined in plaintext',
    'Empty if the caller showed no certificate, or one without such a name.',
  ],
];
