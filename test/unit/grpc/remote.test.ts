/** A message that goes over the wire and comes back is unchanged: a gateway answers as the agent behind it does. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import * as fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import type {
  AbortRequest,
  CommitRequest,
  ListJobsRequest,
  RebaseRequest,
  StartCopyRequest,
  WatchJobRequest,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import type { CheckOperationRequest } from '../../../generated/blockjob/v1/domain_service.ts';
import { Job as JobMessage } from '../../../generated/blockjob/v1/job.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import type { ReclaimResult } from '../../../src/core/block-jobs.ts';
import { BlockJobError, failure, violation } from '../../../src/core/errors.ts';
import type { ForeignJob } from '../../../src/core/foreign-job.ts';
import { concludedJob } from '../../../src/core/job/job.ts';
import type { EventFacts } from '../../../src/core/job/job-event.ts';
import { publicJob } from '../../../src/core/job/job-view.ts';
import type { EntryBody } from '../../../src/core/job/journal-entry.ts';
import { outcomeAtEnd } from '../../../src/core/job/outcome-of.ts';
import type { Progress } from '../../../src/core/job/progress.ts';
import {
  fromForeignJob,
  fromJobEvent,
  fromJobView,
  fromLeftover,
  fromReclaimResult,
} from '../../../src/grpc/answers.ts';
import { toJobEvent, toJobView } from '../../../src/grpc/remote/answers.ts';
import { connect } from '../../../src/grpc/remote/connect.ts';
import { errorOf, failureOf } from '../../../src/grpc/remote/failure.ts';
import { toForeignJob, toLeftover, toReclaimResult } from '../../../src/grpc/remote/leftovers.ts';
import {
  fromAbortRequest,
  fromCheckOperationRequest,
  fromCommitRequest,
  fromCopyRequest,
  fromListJobsRequest,
  fromRebaseRequest,
  fromWatchRequest,
} from '../../../src/grpc/remote/requests.ts';
import {
  toAbortRequest,
  toCheckOperationRequest,
  toCommitRequest,
  toCopyRequest,
  toListJobsRequest,
  toRebaseRequest,
  toWatchRequest,
} from '../../../src/grpc/requests.ts';
import { answerTo, statusOf } from '../../../src/grpc/status.ts';
import { present } from '../../support/checks.ts';
import { serving } from '../../support/service/stub-server.ts';
import {
  CONCLUDED,
  CREATED,
  jobOf,
  jobWith,
  LEFTOVER,
  POLICY,
  policyStep,
  READY,
  RUNNING,
  STORIES,
  THROTTLE,
  THROTTLED,
  THROTTLING,
} from '../core/stories.ts';

const int = fc.oneof(fc.constantFrom(0, 1, 2), fc.integer());
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const text = fc.string();
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined });
const disk = fc.record({ domain: text, disk: text });
const server = maybe(
  fc.oneof(
    text.map((value) => ({ $case: 'unixSocket', value }) as const),
    fc.record({ host: text, port: fc.integer({ min: 1 }) }).map((value) => ({ $case: 'tcp', value }) as const),
  ),
);
const nbd = fc.record({ server, exportName: text, tlsCredentialsId: text, tlsHostname: text });
const target = maybe(
  fc.oneof(
    text.map((value) => ({ $case: 'file', value }) as const),
    text.map((value) => ({ $case: 'blockDevice', value }) as const),
    nbd.map((value) => ({ $case: 'nbd', value }) as const),
  ),
);
const duration = maybe(fc.integer({ min: 0, max: 2 ** 31 }).map((ms) => ({ seconds: BigInt(ms), nanos: 5e6 })));
const job = fc.oneof(
  fc.string({ minLength: 1 }).map((value) => ({ name: { $case: 'jobId', value } }) as const),
  fc
    .record({ domain: fc.string({ minLength: 1 }), disk: fc.string({ minLength: 1 }) })
    .map((value) => ({ name: { $case: 'disk', value } }) as const),
);
const labels = fc.dictionary(text, text);
const start = {
  disk,
  requestId: text,
  validateOnly: fc.boolean(),
  planEtag: text,
  accept: fc.array(int),
  configOwner: int,
  labels,
};

/** Each request, how it is read here, and how it is written for another service. */
const REQUESTS: readonly (readonly [string, fc.Arbitrary<unknown>, (message: never) => unknown])[] = [
  [
    'StartCopy',
    fc.record({
      ...start,
      destination: fc.record({ target, format: int, encryption: maybe(fc.record({ secretId: text })) }),
      shallow: fc.boolean(),
      reuseExternal: fc.boolean(),
      relativeBacking: fc.boolean(),
      verifyReused: fc.boolean(),
      bandwidthBytesPerSecond: int64,
      granularityBytes: int64,
      bufferBytes: int64,
      writeMode: int,
      onReady: int,
      onNoSpace: int,
      timeLimit: duration,
      pauseGuest: int,
      endPolicy: maybe(
        fc.record({
          patience: duration,
          bandwidthCeilingBytesPerSecond: int64,
          switchToBlocking: fc.boolean(),
          chooseGranularity: fc.boolean(),
          atDeadline: int,
          maxGuestPause: duration,
          guestThrottle: maybe(fc.record({ floorBytesPerSecond: int64, maxDuration: duration })),
        }),
      ),
    }),
    (message: StartCopyRequest) => [toCopyRequest(message), toCopyRequest(fromCopyRequest(toCopyRequest(message)))],
  ],
  [
    'Rebase',
    fc.record({ ...start, base: text, flags: fc.array(int), bandwidth: int64 }),
    (message: RebaseRequest) => [
      toRebaseRequest(message),
      toRebaseRequest(fromRebaseRequest(toRebaseRequest(message))),
    ],
  ],
  [
    'Commit',
    fc.record({ ...start, base: text, top: text, flags: fc.array(int), bandwidth: int64 }),
    (message: CommitRequest) => [
      toCommitRequest(message),
      toCommitRequest(fromCommitRequest(toCommitRequest(message))),
    ],
  ],
  [
    'Abort',
    fc.record({
      job,
      pivot: fc.boolean(),
      returnImmediately: fc.boolean(),
      force: fc.boolean(),
      pauseGuest: int,
      record: maybe(fc.record({ token: text })),
      recordOnly: fc.boolean(),
      requestId: text,
    }),
    (message: AbortRequest) => [toAbortRequest(message), toAbortRequest(fromAbortRequest(toAbortRequest(message)))],
  ],
  [
    'ListJobs',
    fc.record({
      domain: text,
      labelFilter: labels,
      createdByFilter: text,
      stateFilter: fc.array(int),
      pageSize: fc.integer(),
      pageToken: text,
    }),
    (message: ListJobsRequest) => [
      toListJobsRequest(message),
      toListJobsRequest(fromListJobsRequest(toListJobsRequest(message))),
    ],
  ],
  [
    'WatchJob',
    fc.record({ job, afterRevision: maybe(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })), progressInterval: duration }),
    (message: WatchJobRequest) => [toWatchRequest(message), toWatchRequest(fromWatchRequest(toWatchRequest(message)))],
  ],
  [
    'CheckOperation',
    fc.record({ domain: text, disk: maybe(text), operation: int }),
    (message: CheckOperationRequest) => [
      toCheckOperationRequest(message),
      toCheckOperationRequest(fromCheckOperationRequest(toCheckOperationRequest(message))),
    ],
  ],
];

describe('a request that is passed on', () => {
  it.each(REQUESTS)('%s is unchanged, with the numbers that nobody knows', (_name, message, bothOf) => {
    fc.assert(
      fc.property(message, (one) => {
        const [here, there] = (bothOf as (message: unknown) => readonly unknown[])(one) as [unknown, unknown];
        expect(there).toEqual(here);
      }),
    );
  });
});

const PROGRESS: Progress = {
  currentBytes: 5,
  endBytes: 10,
  percent: 50,
  remainingBytes: 5,
  bytesPerSecond: 1,
  dirtyBytesPerSecond: 2,
  etaMs: 1500,
  floorBytes: 5,
  demandBytesPerSecond: 6,
  guestBytesPerSecond: 7,
  guestWriteBytes: 8,
  phase: 'COPYING',
  reason: 'will end at this rate',
  convergence: 'CONVERGING',
  sampleTime: '2026-01-01T00:00:00.000Z',
};
const nbdDestination = {
  node: 'n',
  path: 'nbd://host:1/e',
  format: 'RAW',
  target: {
    kind: 'nbd',
    nbd: { server: { kind: 'tcp', host: 'host', port: 1 }, exportName: 'e', tlsCredentialsId: '', tlsHostname: '' },
  },
} as const;
const fileDestination = {
  node: 'n',
  path: '/copy',
  format: 'QCOW2',
  target: { kind: 'file', path: '/copy' },
} as const;
const refusedJob = {
  ...publicJob(jobWith({ kind: 'PULL', destination: undefined, domainUuid: 'u' }, RUNNING)),
  failure: failure('NO_SPACE', { path: '/x', why: 'full' }),
};
const endedJob = concludedJob(jobOf(CREATED, RUNNING, CONCLUDED));
const ended = { ...publicJob(endedJob), outcome: outcomeAtEnd(endedJob) };
const changedSince = {
  ...ended,
  outcome: {
    ...ended.outcome,
    guestChangedBy: 'bj2',
    setConfigBackTo: '/a',
    destinationChangedBy: 'bj3',
    safeToDelete: [
      { path: '/a', warning: '' },
      { path: '/b', warning: 'on nfs4', sharedStorage: 'nfs4' },
    ],
  },
};
const AT_GATE: readonly EntryBody[] = [RUNNING, READY, { entry: 'gate-opened', token: 'token' }];
const JOBS = [
  ...[
    ...STORIES.map(([, , entries]) => jobOf(...entries)),
    jobWith({ destination: nbdDestination, options: { timeLimitMs: 1500, granularityBytes: 4096 } }, RUNNING),
    jobWith({ destination: { ...fileDestination, encryption: { secretId: 's0' } } }, RUNNING),
    jobWith({ options: { configOwner: 'NONE' } }, RUNNING),
    jobWith({ options: { endPolicy: POLICY } }, RUNNING),
    jobWith(
      { options: { endPolicy: { ...POLICY, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 1500 } } },
      RUNNING,
      policyStep('LIMIT'),
      policyStep('BLOCKING'),
      policyStep('PAUSE_GUEST'),
    ),
    jobWith({ options: THROTTLING }, RUNNING, THROTTLE, THROTTLED),
    jobWith({ options: { configOwner: 'EXTERNAL' } }, ...AT_GATE),
    jobWith({ options: { configOwner: 'EXTERNAL' } }, ...AT_GATE, { entry: 'config-recorded', token: 'token' }),
  ].map(publicJob),
  refusedJob,
  ended,
  changedSince,
];

const DATED = { ...LEFTOVER, createTime: PROGRESS.sampleTime };
const EVENT: EventFacts = {
  job: ended,
  progress: undefined,
  type: 'STATE',
  time: PROGRESS.sampleTime,
  detail: 'd',
};

describe('an answer that is passed on', () => {
  it.each(JOBS.map((one) => [one.state, one] as const))('a job that is %s is the same message', (_state, one) => {
    for (const progress of [undefined, PROGRESS, { ...PROGRESS, etaMs: undefined }]) {
      const message = fromJobView({ job: one, progress });
      const received = JobMessage.decode(JobMessage.encode(message).finish());
      expect(fromJobView(toJobView(received))).toEqual(message);
    }
  });

  it('an event, of COMPACTED too', () => {
    for (const one of [EVENT, { ...EVENT, type: 'COMPACTED', oldestRevision: 3 } as const]) {
      expect(fromJobEvent(toJobEvent(fromJobEvent(one)))).toEqual(fromJobEvent(one));
    }
  });

  it('a leftover, and its removal', () => {
    const leftover = DATED;
    expect(toLeftover(fromLeftover(leftover))).toEqual(leftover);
    const results: ReclaimResult[] = [
      { id: 'file:1', leftover, failure: undefined },
      { id: 'gone', leftover: undefined, failure: undefined },
      { id: 'file:1', leftover, failure: failure('ACCESS_DENIED', { path: '/x', why: 'EPERM' }) },
    ];
    for (const result of results) expect(toReclaimResult(fromReclaimResult(result))).toEqual(result);
  });

  it('foreign jobs, in the words of QEMU', () => {
    const known: ForeignJob = {
      id: 'drive-virtio-disk0',
      host: 'host-a',
      domain: 'vm1',
      domainUuid: 'u',
      disk: 'vd0',
      type: 'mirror',
      status: 'concluded',
      error: 'no space',
      currentBytes: 7,
      endBytes: 2 ** 40,
      isOfLibvirt: true,
    };
    const least = { ...known, domainUuid: undefined, disk: undefined, error: undefined, isOfLibvirt: false };
    for (const one of [known, least]) expect(toForeignJob(fromForeignJob(one))).toEqual(one);
  });

  it.each([99, 0, -1])('has the number %d where an enum of another version has a value that is not known here', (n) => {
    const number = n as never;
    const message = fromJobView({
      job: publicJob(jobWith({ destination: fileDestination }, RUNNING)),
      progress: PROGRESS,
    });
    const { options, destination, outcome, progress } = message;
    const told: JobMessage = {
      ...message,
      kind: number,
      state: number,
      pauseReason: number,
      progress: { ...present(progress), convergence: number },
      destination: { ...present(destination), format: number },
      options: {
        ...present(options),
        writeMode: number,
        onReady: number,
        onNoSpace: number,
        pauseGuest: number,
        accept: [number],
      },
      outcome: {
        ...present(outcome),
        destinationContent: number,
        evidence: [{ source: number, text: 'seen', revision: 2n }],
      },
    };
    const received = JobMessage.decode(JobMessage.encode(told).finish());
    expect(fromJobView(toJobView(received))).toEqual(told);
    const event = { ...fromJobEvent(EVENT), job: received, revision: received.revision, kind: number };
    expect(fromJobEvent(toJobEvent(event))).toEqual(event);
    const leftover = { ...fromLeftover(DATED), kind: number };
    expect(fromLeftover(toLeftover(leftover))).toEqual(leftover);
  });
});

/** The reason in the answer when this is thrown. */
function said(code: string, more: object): string | undefined {
  const thrown = Object.assign(new Error('x'), { code, ...more });
  return answerTo(thrown, pino({ level: 'silent' })).details?.split(':', 1)[0];
}

function plain(code: status, details: string) {
  const error = Object.assign(new Error(details), { code, details, metadata: new Metadata() });
  return errorOf(error, 'host1').failure;
}

describe('a refusal that is passed on', () => {
  const log = pino({ level: 'silent' });
  const asReceived = (error: unknown): ServiceError => {
    const { code, details, metadata } = answerTo(error, log);
    return Object.assign(new Error('refused'), {
      code: code ?? 0,
      details: details ?? '',
      metadata: metadata ?? new Metadata(),
    });
  };

  it('has the reason, the words and the fields', () => {
    const why = failure('DISK_NOT_FOUND', { domain: 'vm1', disk: 'x' });
    expect(errorOf(asReceived(new BlockJobError(why)), 'host1').failure).toEqual(why);
    const two = BlockJobError.ofViolations([
      violation('a', 'FIELD_INVALID', { field: 'a', problem: 'is bad' }),
      violation('b', 'FIELD_INVALID', { field: 'b', problem: 'is worse' }),
    ]);
    const passed = errorOf(asReceived(two), 'host1').failure;
    expect(statusOf(passed)).toEqual(statusOf(two.failure));
  });

  it('of a broken connection names the host; of a missing method, the method', () => {
    expect(plain(status.UNAVAILABLE, 'Connection dropped')).toEqual(
      failure('HOST_UNREACHABLE', { host: 'host1', why: 'Connection dropped' }),
    );
    expect(plain(status.DEADLINE_EXCEEDED, '').text).toContain('it did not answer in time');
    expect(plain(status.UNIMPLEMENTED, 'no such method').reason).toBe('NOT_IMPLEMENTED');
  });

  it('with details that are not a message, or with a reason of a later version, is still reported', () => {
    const error = asReceived(new BlockJobError(failure('DRAINING', {})));
    error.metadata.set('grpc-status-details-bin', Buffer.from([255]));
    expect(errorOf(error, 'host1').reason).toBe('HOST_UNREACHABLE');
    const rich = statusOf(failure('DRAINING', {}));
    const tomorrow = Status.decode(Status.encode(rich).finish());
    for (const one of tomorrow.details)
      one.value = Buffer.from(one.value.toString('latin1').replace('DRAINING', 'TOMORROW'), 'latin1');
    expect(failureOf(tomorrow)).toMatchObject({ reason: 'REASON_UNKNOWN', metadata: { otherReason: 'TOMORROW' } });
    const { code, details, metadata } = answerTo(new BlockJobError(failureOf(tomorrow)), log);
    const [bytes] = metadata?.get('grpc-status-details-bin') ?? [];
    expect({ code, details, rich: Status.decode(Buffer.from(present(bytes))) }).toEqual({
      code: tomorrow.code,
      details: tomorrow.message,
      rich: tomorrow,
    });
    // A call that may be repeated may be repeated to any version.
    error.metadata.set('grpc-status-details-bin', Buffer.from(Status.encode(tomorrow).finish()));
    expect(errorOf(error, 'host1').failure).toMatchObject({
      reason: 'HOST_UNREACHABLE',
      text: expect.stringContaining('TOMORROW') as string,
      metadata: { host: 'host1' },
    });
  });

  it('is not a bug of ours if the kernel has reported it, and is one otherwise', () => {
    expect(said('ENOSPC', { syscall: 'write' })).toBe('NO_SPACE');
    expect(said('EMFILE', { syscall: 'open' })).toBe('LIMIT_REACHED');
    expect(said('ESTALE', { syscall: 'lstat' })).toBe('STORAGE_FAILED');
    expect(said('ENOTSUP', { syscall: 'lstat' })).toBe('STORAGE_FAILED');
    expect(said('EBADF', { syscall: 'read' })).toBe('BUG');
    // A caller that looks for a file knows the meaning of its absence.
    expect(said('ENOENT', { syscall: 'open' })).toBe('BUG');
    expect(said('ERR_INVALID_ARG_VALUE', {})).toBe('BUG');
  });
});

it('asks the service itself, not a web proxy of the environment', async () => {
  await using stub = await serving('tcp', {
    listDomains: async () => await Promise.resolve({ items: [], nextPageToken: '', unreachableHosts: [] }),
  });
  for (const variable of ['grpc_proxy', 'http_proxy', 'https_proxy']) vi.stubEnv(variable, 'http://127.0.0.1:1');
  vi.stubEnv('no_proxy', '');
  vi.stubEnv('no_grpc_proxy', '');
  try {
    using agent = connect({ name: 'host-a', address: stub.address, identity: '' }, undefined);
    const asked = agent.listDomains({ host: '', pageSize: 0, pageToken: '' }, { signal: AbortSignal.timeout(10_000) });
    await expect(asked).resolves.toMatchObject({ items: [] });
  } finally {
    vi.unstubAllEnvs();
  }
});
