/** The events that are not entries: watchers who get one at almost the same time share it. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { publicJob } from '../../../src/core/job/job-view.ts';
import { NO_HISTORY, observe } from '../../../src/core/job/progress.ts';
import { live } from '../../../src/watch/cursor.ts';
import { jobOf, RUNNING } from '../core/stories.ts';

const SAMPLE = { atMs: 0, time: '2026-01-01T00:00:00.000Z', offsetBytes: 10, lengthBytes: 100, ready: false };
const { progress } = observe(NO_HISTORY, SAMPLE);
const job = publicJob(jobOf(RUNNING));
let nowMs = 0;

beforeEach(() => {
  nowMs += 60_000;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
});

afterEach(() => {
  vi.restoreAllMocks();
});

it('an event of the same facts is one object for some milliseconds', () => {
  const first = live('HEARTBEAT', { job, progress }, '');
  nowMs += 9;
  expect(live('HEARTBEAT', { job, progress }, '')).toBe(first);
  nowMs += 1;
  expect(live('HEARTBEAT', { job, progress }, '')).not.toBe(first);
});

it('an event of other facts is another one', () => {
  const view = { job, progress };
  const others = [
    () => live('HEARTBEAT', view, ''),
    () => live('SNAPSHOT', view, ''),
    () => live('SNAPSHOT', view, 'the job as it is'),
    () => live('COMPACTED', view, '', 2),
    () => live('COMPACTED', view, '', 3),
    () => live('HEARTBEAT', { ...view, progress: undefined }, ''),
    () => live('HEARTBEAT', { ...view, job: { ...job } }, ''),
  ];
  const events = others.map((make) => make());
  expect(new Set(events).size).toBe(others.length);
});
