import { expect, it } from 'vitest';
import { stateOf, throttleInWords } from '../../../src/cli/show/job.ts';
import { copy } from '../../../src/cli/starts/copy.ts';
import { Job, Job_State } from '../../../src/client/index.ts';

const since = new Date('2026-11-30T18:00:00.000Z');
const job = Job.fromPartial({
  state: Job_State.STATE_RUNNING,
  guestThrottle: { limitBytesPerSecond: 15n << 20n, since, group: 'bj1' },
});

it('shows a guest that is slowed down, beside the state of the job', () => {
  const words = 'throttled by this job to 15.0 MiB/s since 2026-11-30T18:00:00.000Z';
  expect(throttleInWords(job)).toBe(words);
  expect(stateOf(job)).toBe('RUNNING, guest throttled to 15.0 MiB/s');
  expect(stateOf({ ...job, guestThrottle: undefined })).toBe('RUNNING');
});

const asks = (flags: object) => () => copy.asked(['vm1', 'vd0', '/copy'], flags);

it('refuses a time for a throttle that was not asked for', () => {
  expect(asks({ throttleFor: 1000 })).toThrow('needs --throttle-guest');
  expect(asks({ throttleFor: 1000, throttleGuest: 1n })).not.toThrow();
});
