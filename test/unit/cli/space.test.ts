import { describe, expect, it } from 'vitest';
import { spaceInWords, stateOf } from '../../../src/cli/show/job.ts';
import { Job, Job_State, JobSpace_Level, PauseReason } from '../../../src/client/index.ts';

const { LEVEL_ENOUGH, LEVEL_LOW, LEVEL_FULL } = JobSpace_Level;
const GIB = 1n << 30n;

function job(level: JobSpace_Level, more: Partial<Job> = {}): Job {
  const space = { level, neededBytes: 2n * GIB, freeBytes: GIB, overcommit: false };
  return { ...Job.fromPartial({ state: Job_State.STATE_RUNNING, space }), ...more };
}

describe('the space at a destination', () => {
  it.each([
    ['is not shown if it is enough', job(LEVEL_ENOUGH), ''],
    ['is not shown if it is not known', job(LEVEL_LOW, { space: undefined }), ''],
    ['is low', job(LEVEL_LOW), 'low: 2.00 GiB needed, 1.00 GiB free'],
    ['is used up', job(LEVEL_FULL), 'used up: 2.00 GiB needed, 1.00 GiB free'],
  ])('%s', (_what, shown, words) => {
    expect(spaceInWords(shown)).toBe(words);
  });

  it('is beside the state of a job that has not ended', () => {
    const pauseReason = PauseReason.PAUSE_REASON_NO_SPACE;
    expect(stateOf(job(LEVEL_ENOUGH))).toBe('RUNNING');
    expect(stateOf(job(LEVEL_FULL, { pauseReason }))).toBe(
      'RUNNING, paused: NO_SPACE, space used up: 2.00 GiB needed, 1.00 GiB free',
    );
    expect(stateOf(job(LEVEL_FULL, { state: Job_State.STATE_CANCELLED }))).toBe('CANCELLED');
  });
});
