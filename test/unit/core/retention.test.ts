import { describe, expect, it } from 'vitest';
import type { Job } from '../../../src/core/job.ts';
import type { Accepted, EntryBody } from '../../../src/core/journal-entry.ts';
import { toForget } from '../../../src/core/retention.ts';
import { CONCLUDED, CREATED, DESTINATION, ended, jobOf, jobWith, RUNNING } from './stories.ts';

const DAY_MS = 86_400_000;
const NOW = Date.parse('2026-06-01T00:00:00Z');

/** A job that ended so many days ago, and left nothing. */
function endedAgo(days: number): Job {
  const job = jobOf(RUNNING, CONCLUDED, ended('CANCELLED'));
  return { ...job, endTime: new Date(NOW - days * DAY_MS).toISOString() };
}

/** One that ended long ago, whatever it was. */
function old(job: string, accepted: Partial<Accepted>, ...entries: readonly EntryBody[]): Job {
  const { options: _options, ...given } = accepted;
  const made = jobWith({ ...given, job }, ...entries, CONCLUDED, ended('CANCELLED'));
  return { ...made, endTime: endedAgo(90).endTime };
}

const days = (jobs: readonly Job[], keep: { days: number; jobs: number }) =>
  toForget(jobs, keep, NOW).map(({ endTime }) => (NOW - Date.parse(endTime ?? '')) / DAY_MS);

describe('ended jobs', () => {
  it('are forgotten when they are too old', () => {
    expect(days([endedAgo(29), endedAgo(31), endedAgo(90)], { days: 30, jobs: 100 })).toEqual([31, 90]);
  });

  it('are forgotten when there are too many: the oldest, and none of the last day', () => {
    const jobs = [endedAgo(3), endedAgo(0.5), endedAgo(2), endedAgo(0.1), endedAgo(0.9)];
    expect(days(jobs, { days: 30, jobs: 4 })).toEqual([3]);
    expect(days(jobs, { days: 30, jobs: 1 })).toEqual([2, 3]);
    expect(days(jobs, { days: 1, jobs: 1 })).toEqual([2, 3]);
  });

  it('are kept while they may have left something over, and while they run', () => {
    const stale = { ...jobOf(CREATED, RUNNING, CONCLUDED, ended('CANCELLED')), endTime: endedAgo(90).endTime };
    const running = { ...jobOf(RUNNING), createTime: '2020-01-01T00:00:00Z' };
    expect(days([stale, running], { days: 30, jobs: 1 })).toEqual([]);
  });

  it('are kept while an older one is, of which they have made something else: without them it would be believed', () => {
    const stale = old('bj1', {}, CREATED, RUNNING);
    const onIt = { source: { node: 'copy', path: DESTINATION, format: 'qcow2' } } as const;
    const others = [old('bj2', { ...onIt, domain: 'vm2' }, RUNNING), old('bj3', { domain: 'vm3' }, RUNNING)];
    expect(toForget([stale, ...others], { days: 30, jobs: 100 }, NOW).map(({ accepted }) => accepted.job)).toEqual([
      'bj3',
    ]);
    expect(toForget(others, { days: 30, jobs: 100 }, NOW).map(({ accepted }) => accepted.job)).toEqual(['bj2', 'bj3']);
  });
});
