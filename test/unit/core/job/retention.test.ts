import { describe, expect, it } from 'vitest';
import type { Accepted, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../../../src/core/job/known-job.ts';
import { type Retention, toForget } from '../../../../src/core/job/retention.ts';
import { CONCLUDED, CREATED, DESTINATION, ended, jobOf, jobWith, RUNNING } from '../stories.ts';

const DAY_MS = 86_400_000;
/** By the clock of the state folder; the host's clock does not count. */
const NOW = 1000 * DAY_MS;

/** A job that ended this many days ago, without leftovers. */
function endedAgo(days: number): KnownJob {
  const job = knownOf(jobOf(RUNNING, CONCLUDED, ended('CANCELLED')));
  return { ...job, endedMs: NOW - days * DAY_MS };
}

/** The same, but it has made a file that is not a copy. */
function leftAgo(days: number): KnownJob {
  return { ...knownOf(jobOf(CREATED, RUNNING, CONCLUDED, ended('CANCELLED'))), endedMs: NOW - days * DAY_MS };
}

/** A job that ended long ago, of any kind. */
function old(job: string, accepted: Partial<Accepted>, ...entries: readonly EntryBody[]): KnownJob {
  const { options: _options, ...given } = accepted;
  const made = jobWith({ ...given, job }, ...entries, CONCLUDED, ended('CANCELLED'));
  return { ...knownOf(made), endedMs: NOW - 90 * DAY_MS };
}

const days = (jobs: readonly KnownJob[], keep: Retention) =>
  toForget(jobs, keep, NOW).map(({ endedMs = NOW }) => (NOW - endedMs) / DAY_MS);

describe('ended jobs', () => {
  it("are kept by each of the operator's limits", () => {
    const read = new Set<PropertyKey>();
    const keep: Retention = { days: 30, jobs: 100, leftovers: 10 };
    const looked = new Proxy(keep, {
      get: (all, name) => {
        read.add(name);
        return Reflect.get(all, name) as unknown;
      },
    });
    expect(days([endedAgo(31), leftAgo(31)], looked)).toEqual([31]);
    expect(read).toEqual(new Set(Object.keys(keep)));
  });

  it('are forgotten when they are too old', () => {
    expect(days([endedAgo(29), endedAgo(31), endedAgo(90)], { days: 30, jobs: 100, leftovers: 10 })).toEqual([31, 90]);
  });

  it('are forgotten when there are too many: the oldest, and none of the last day', () => {
    const jobs = [endedAgo(3), endedAgo(0.5), endedAgo(2), endedAgo(0.1), endedAgo(0.9)];
    expect(days(jobs, { days: 30, jobs: 4, leftovers: 10 })).toEqual([3]);
    expect(days(jobs, { days: 30, jobs: 1, leftovers: 10 })).toEqual([2, 3]);
    expect(days(jobs, { days: 1, jobs: 1, leftovers: 10 })).toEqual([2, 3]);
  });

  it('are as old as the clock of the state folder says, whatever the host’s said when they ended', () => {
    const ahead = { ...endedAgo(2), endTime: '2099-01-01T00:00:00Z' };
    const behind = { ...endedAgo(29), endTime: '1970-01-01T00:00:00Z' };
    expect(days([ahead, behind], { days: 30, jobs: 100, leftovers: 10 })).toEqual([]);
    expect(days([ahead, behind], { days: 30, jobs: 1, leftovers: 10 })).toEqual([29]);
  });

  it('of older journals are as old as that clock, and in the order in which they ended', () => {
    const [first, second] = ['2026-01-01', '2026-01-02'].map((day) => {
      return { ...knownOf(jobOf(RUNNING, CONCLUDED, ended('CANCELLED'))), endTime: `${day}T00:00:00Z` };
    });
    const of = (nowMs: number) =>
      toForget(
        [first, second].flatMap((one) => one ?? []),
        { days: 30, jobs: 1, leftovers: 10 },
        nowMs,
      ).map(({ endTime }) => endTime);
    expect(of(DAY_MS)).toEqual([]);
    expect(of(2 * DAY_MS)).toEqual(['2026-01-01T00:00:00Z']);
  });

  it('are kept while they may have leftovers, and while they run', () => {
    const stale = { ...knownOf(jobOf(CREATED, RUNNING, CONCLUDED, ended('CANCELLED'))), endedMs: NOW - 90 * DAY_MS };
    const running = { ...knownOf(jobOf(RUNNING)), createTime: '2020-01-01T00:00:00Z' };
    expect(days([stale, running], { days: 30, jobs: 1, leftovers: 10 })).toEqual([]);
  });

  it('with possible leftovers are limited by number: the oldest go, and none of the last day', () => {
    const all = [leftAgo(400), leftAgo(90), leftAgo(3), leftAgo(0.5)];
    expect(days(all, { days: 1, jobs: 1, leftovers: 4 })).toEqual([]);
    expect(days(all, { days: 1, jobs: 1, leftovers: 2 })).toEqual([90, 400]);
    expect(days([...all, endedAgo(2)], { days: 1, jobs: 9, leftovers: 1 })).toEqual([2, 3, 90, 400]);
  });

  it('are kept while an older one is whose answer they change: without them it would be believed', () => {
    const stale = old('bj1', {}, CREATED, RUNNING);
    const onIt = { source: { node: 'copy', path: DESTINATION, format: 'qcow2' } } as const;
    const others = [old('bj2', { ...onIt, domain: 'vm2' }, RUNNING), old('bj3', { domain: 'vm3' }, RUNNING)];
    expect(
      toForget([stale, ...others], { days: 30, jobs: 100, leftovers: 10 }, NOW).map(({ accepted }) => accepted.job),
    ).toEqual(['bj3']);
    expect(toForget(others, { days: 30, jobs: 100, leftovers: 10 }, NOW).map(({ accepted }) => accepted.job)).toEqual([
      'bj2',
      'bj3',
    ]);
  });
});
