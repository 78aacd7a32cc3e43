/** The words of the page: numbers as people read them, and the advice about a job. */
import { create } from '@bufbuild/protobuf';
import { anyPack, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, test } from 'vitest';
import {
  Convergence,
  DestinationContent,
  EndStep_Kind,
  EndStepSchema,
  Job_State,
  JobKind,
  JobSchema,
  JobSpace_Level,
  PauseReason,
} from '../../../generated/es/blockjob/v1/job_pb.js';
import { ErrorInfoSchema } from '../../../generated/es/google/rpc/error_details_pb.js';
import { adviceOn } from '../../../page/advice.ts';
import { History } from '../../../page/history.ts';
import {
  ago,
  bytes,
  duration,
  percent,
  rate,
  spaceInWords,
  stateWord,
  stepInWords,
  throttleInWords,
} from '../../../page/words.ts';

const KIB = 1024;

test('a guest that is slowed down', () => {
  const guestThrottle = {
    limitBytesPerSecond: 15n << 20n,
    since: timestampFromMs(Date.UTC(2026, 10, 30)),
    group: 'bj1',
  };
  expect(throttleInWords(create(JobSchema, { guestThrottle }))).toMatch(
    /^throttled by this job to 15\.0 MiB\/s since /,
  );
  expect(throttleInWords(create(JobSchema, {}))).toBe('');
});

test.each([
  [{ kind: EndStep_Kind.LIMIT, bandwidthBytesPerSecond: 3n << 20n }, 'Its speed limit was lifted to 3.00 MiB/s'],
  [{ kind: EndStep_Kind.BLOCKING }, 'It was switched to write mode BLOCKING'],
  [{ kind: EndStep_Kind.HOLD }, 'It goes on after its time limit'],
  [{ kind: EndStep_Kind.PAUSE_GUEST }, 'The guest was paused for the rest'],
])('a step of an end policy: %o', (step, words) => {
  expect(stepInWords(create(EndStepSchema, { ...step, reason: 'why' }))).toBe(`${words}, because why`);
});

describe('numbers', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [KIB, '1.00 KiB'],
    [10 * KIB - 1, '10.0 KiB'],
    [99.9 * KIB, '99.9 KiB'],
    [KIB ** 2 - 1, '1.00 MiB'],
    [512 * KIB ** 3, '512 GiB'],
    [2n ** 63n - 1n, '8192 PiB'],
  ])('%s bytes are %s', (count, text) => {
    expect(bytes(count)).toBe(text);
    expect(rate(count)).toBe(`${text}/s`);
  });

  test.each([
    [0, 'less than 1 s'],
    [1, '1 s'],
    [59.6, '1 min'],
    [80, '1 min 20 s'],
    [3600, '1 h'],
    [3661, '1 h 1 min'],
    [90_000, '1 d 1 h'],
  ])('%s seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  test.each([
    [-3, 'just now'],
    [12, '10 s ago'],
    [150, '2 min ago'],
    [7300, '2 h 1 min ago'],
  ])('%s seconds ago is shown as %s', (seconds, text) => {
    expect(ago(new Date(1_000_000), new Date(1_000_000 + seconds * 1000))).toBe(text);
  });

  test('a hundred per cent is only what is', () => {
    expect([percent(0), percent(99.9), percent(100)]).toEqual(['0.0 %', '99.9 %', '100 %']);
  });
});

function job(more: Parameters<typeof create<typeof JobSchema>>[1]) {
  return create(JobSchema, { id: 'bj1', kind: JobKind.COPY, state: Job_State.RUNNING, sourcePath: '/a', ...more });
}

describe('advice', () => {
  test('is given for all that waits for somebody, and for nothing else', () => {
    const { NO_SPACE, IO_ERROR, USER } = PauseReason;
    expect(adviceOn(job({}))).toBeUndefined();
    expect(adviceOn(job({ state: Job_State.COMPLETED }))).toBeUndefined();
    expect(adviceOn(job({ state: Job_State.CANCELLED }))).toBeUndefined();
    for (const pauseReason of [NO_SPACE, IO_ERROR, USER]) expect(adviceOn(job({ pauseReason }))?.tone).toBe('warn');
    const { STALLED, DIVERGING, SETTLED } = Convergence;
    for (const state of [Job_State.RUNNING, Job_State.READY, Job_State.PIVOTING])
      for (const convergence of [STALLED, DIVERGING])
        expect(adviceOn(job({ state, progress: { convergence } }))?.tone).toBe('warn');
    expect(adviceOn(job({ progress: { convergence: SETTLED } }))).toBeUndefined();
    expect(adviceOn(job({ state: Job_State.READY }))?.tone).toBe('good');
    expect(adviceOn(job({ state: Job_State.UNRESOLVED }))?.text).toContain('delete nothing');
  });

  test('is given for space that is low, and not after the end', () => {
    const low = { space: { level: JobSpace_Level.LOW, neededBytes: 2048n, freeBytes: 1024n } };
    expect(adviceOn(job(low))?.title).toContain('full');
    expect(adviceOn(job({ ...low, state: Job_State.CANCELLED, endTime: timestampFromMs(0) }))).toBeUndefined();
    expect(adviceOn(job({ space: { level: JobSpace_Level.ENOUGH } }))).toBeUndefined();
    expect(spaceInWords(job(low))).toBe('needs 2.00 KiB more, free 1.00 KiB');
    expect(spaceInWords(job({ space: { level: JobSpace_Level.ENOUGH } }))).toBe('');
  });

  test('says of the guest only what is known', () => {
    const state = Job_State.FAILED;
    expect(adviceOn(job({ state, outcome: { guestWritesTo: '/a' } }))?.text).toContain('still runs on its source');
    expect(adviceOn(job({ state, outcome: {} }))?.text).toContain('is not known');
    const stale = { guestWritesTo: '/a', destinationContent: DestinationContent.STALE };
    expect(adviceOn(job({ state, outcome: stale }))?.text).toContain('do not use it');
  });

  test('follows the reason of the error', () => {
    const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: 'NO_SPACE' }))];
    expect(adviceOn(job({ state: Job_State.FAILED, error: { details } }))?.text).toContain('Free space');
    expect(adviceOn(job({ state: Job_State.FAILED, error: {} }))?.text).toContain(
      'Correct the cause that the error names',
    );
  });

  test('a pause is shown before the state', () => {
    expect(stateWord(Job_State.RUNNING, PauseReason.UNSPECIFIED)).toEqual({ word: 'Running', tone: 'busy' });
    expect(stateWord(Job_State.READY, PauseReason.NO_SPACE)).toEqual({ word: 'Paused: no space', tone: 'warn' });
  });
});

function at(seconds: number, id = 'bj1') {
  return job({ id, progress: { sampleTime: timestampFromMs(seconds * 1000), bytesPerSecond: BigInt(seconds) } });
}

describe('the history of a job', () => {
  test('takes each sample once, and none from the past', () => {
    const history = new History();
    for (const seconds of [10, 11, 11, 9, 12]) history.add(at(seconds));
    history.add(job({}));
    expect(history.of('bj1').map(({ time }) => time)).toEqual([10, 11, 12]);
  });

  test('has an end, and ends with its job', () => {
    const history = new History();
    for (let seconds = 1; seconds <= 700; seconds += 1) history.add(at(seconds));
    history.add(at(1, 'bj2'));
    expect(history.of('bj1')).toHaveLength(600);
    expect(history.of('bj1')[0]?.time).toBe(101);
    history.keepOnly(new Set(['bj2']));
    expect(history.of('bj1')).toEqual([]);
    expect(history.of('bj2')).toHaveLength(1);
  });
});
