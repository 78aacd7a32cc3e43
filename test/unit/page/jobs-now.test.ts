/** The active jobs that the page knows from the stream, and whether their numbers are current. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { WatchJobsResponseSchema } from '../../../generated/es/blockjob/v1/block_job_service_pb.js';
import { Job_State, JobEvent_Kind } from '../../../generated/es/blockjob/v1/job_pb.js';
import { JobsNow } from '../../../page/jobs-now.ts';
import { present } from '../../support/checks.ts';

type About = NonNullable<MessageInitShape<typeof WatchJobsResponseSchema>['about']>;

/** The time of a host whose clock is an hour late. */
const HOST_MS = Date.now() - 3_600_000;

interface Told {
  readonly kind?: JobEvent_Kind;
  readonly revision?: number;
  readonly state?: Job_State;
  readonly hasEnded?: boolean;
  /** The seconds between the begin of the test and the question to QEMU. Undefined: the event has no numbers. */
  readonly at?: number;
  readonly host?: string;
}

describe('the active jobs of the page', () => {
  let jobs: JobsNow;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
    jobs = new JobsNow();
    return () => vi.useRealTimers();
  });

  const take = (about: About) => jobs.take(create(WatchJobsResponseSchema, { about }));
  const snapshot = (host = 'h1') => take({ case: 'snapshot', value: { host } });
  const synced = (startingJobIds: string[] = [], host = 'h1') =>
    take({ case: 'synced', value: { host, startingJobIds } });
  const complete = () => take({ case: 'complete', value: {} });
  const event = (id: string, told: Told = {}) => {
    const { kind = JobEvent_Kind.PROGRESS, revision = 2, state = Job_State.RUNNING, at, host = 'h1' } = told;
    const job = {
      id,
      host,
      state,
      revision: BigInt(revision),
      ...(told.hasEnded === true && { endTime: timestampFromMs(HOST_MS) }),
      ...(at !== undefined && { progress: { percent: at, sampleTime: timestampFromMs(HOST_MS + at * 1000) } }),
    };
    const time = timestampFromMs(HOST_MS + performance.now());
    return take({ case: 'event', value: { kind, revision: BigInt(revision), time, job } });
  };
  const shown = (id: string, at: number, host = 'h1') => event(id, { kind: JobEvent_Kind.SNAPSHOT, at, host });
  const isCurrent = (id: string) => jobs.isCurrent(present(jobs.get(id)));
  const ids = () => jobs.running.map(({ id }) => id);
  const begin = () => {
    snapshot();
    shown('a', 0);
    synced();
    complete();
  };

  test('are those of the snapshot and the later ones, without those that have ended', () => {
    begin();
    event('b', { kind: JobEvent_Kind.STATE, revision: 1, state: Job_State.STARTING });
    expect(ids()).toEqual(['a', 'b']);
    expect(event('a', { kind: JobEvent_Kind.STATE, revision: 3, state: Job_State.COMPLETED, hasEnded: true })).toBe(
      true,
    );
    expect(ids()).toEqual(['b']);
  });

  test('are not those that another snapshot of their host leaves out', () => {
    begin();
    snapshot('h2');
    shown('c', 0, 'h2');
    synced([], 'h2');
    snapshot();
    shown('b', 0);
    expect(ids()).toEqual(['a', 'c', 'b']);
    expect(synced()).toBe(true);
    expect(ids()).toEqual(['c', 'b']);
  });

  test('are not those whose start was refused', () => {
    begin();
    event('b', { kind: JobEvent_Kind.STATE, revision: 1, state: Job_State.STARTING });
    event('c', { kind: JobEvent_Kind.STATE, revision: 1, state: Job_State.STARTING });
    synced(['c']);
    expect(ids()).toEqual(['a', 'c']);
  });

  test('are not changed by a repeated event, but by any snapshot', () => {
    begin();
    event('a', { kind: JobEvent_Kind.STATE, revision: 5, state: Job_State.READY });
    event('a', { kind: JobEvent_Kind.STATE, revision: 4, state: Job_State.RUNNING });
    expect(jobs.get('a')?.state).toBe(Job_State.READY);
    snapshot();
    shown('a', 1);
    expect(jobs.get('a')).toMatchObject({ state: Job_State.RUNNING, revision: 2n });
  });

  test('keep their numbers over an entry that has none', () => {
    begin();
    event('a', { kind: JobEvent_Kind.SPEED, revision: 3 });
    expect(jobs.get('a')?.progress?.percent).toBe(0);
  });

  test('have current numbers for five seconds after QEMU was asked, whatever the clock of the host', () => {
    begin();
    expect(isCurrent('a')).toBe(true);
    vi.advanceTimersByTime(4000);
    event('a', { at: 4 });
    vi.advanceTimersByTime(4999);
    expect(isCurrent('a')).toBe(true);
    // Repeated, but not measured again.
    event('a', { at: 4 });
    vi.advanceTimersByTime(1);
    expect(isCurrent('a')).toBe(false);
    event('a', { at: 9 });
    expect(isCurrent('a')).toBe(true);
    // The clock of the host is set back.
    vi.advanceTimersByTime(5000);
    event('a', { at: 3 });
    expect(isCurrent('a')).toBe(true);
    snapshot();
    shown('a', 3600);
    synced();
    vi.advanceTimersByTime(5000);
    expect(isCurrent('a')).toBe(false);
  });

  test('have old numbers in a snapshot if QEMU was silent before', () => {
    vi.advanceTimersByTime(60_000);
    snapshot();
    shown('a', 10);
    shown('b', 58);
    synced();
    complete();
    expect([isCurrent('a'), isCurrent('b')]).toEqual([false, true]);
  });

  test('have old numbers while the stream is lost, and until the second number after that', () => {
    begin();
    jobs.lose();
    expect(isCurrent('a')).toBe(false);
    vi.advanceTimersByTime(60_000);
    synced();
    complete();
    expect(isCurrent('a')).toBe(false);
    // The service may have kept it for long.
    event('a', { at: 30 });
    expect(isCurrent('a')).toBe(false);
    event('a', { at: 61 });
    expect(isCurrent('a')).toBe(true);
  });

  test('have old numbers while their host does not answer, but not those of other hosts', () => {
    begin();
    snapshot('h2');
    shown('b', 0, 'h2');
    synced([], 'h2');
    take({ case: 'unreachable', value: { host: 'h1', error: { message: 'it is cut off' } } });
    expect([isCurrent('a'), isCurrent('b')]).toEqual([false, true]);
    expect([...jobs.unreachableHosts]).toEqual([['h1', 'it is cut off']]);
    synced();
    expect([isCurrent('a'), jobs.unreachableHosts.size]).toEqual([true, 0]);
  });
});
