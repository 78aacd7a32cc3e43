/** Sizes, speeds and times, in both directions; and the advice. */
import { describe, expect, it } from 'vitest';
import { EXIT, worstOf } from '../../../src/cli/exit.ts';
import { failureInWords } from '../../../src/cli/failure.ts';
import { bandwidthFrom, bytes, duration, parseDuration, parseSize, speed } from '../../../src/cli/units.ts';
import { BlockJobError } from '../../../src/client/index.ts';

describe('units', () => {
  it.each([
    ['0', 0n],
    ['65536', 65_536n],
    ['64KiB', 65_536n],
    ['64K', 65_536n],
    ['64k', 65_536n],
    ['64KB', 64_000n],
    ['1.5G', 3n << 29n],
    ['1 MiB', 1n << 20n],
    ['7B', 7n],
    ['9223372036854775807', 2n ** 63n - 1n],
  ])('a size of %s is %d bytes', (text, count) => {
    expect(parseSize(text)).toBe(count);
  });

  it('a speed without a unit is MiB/s, or bytes', () => {
    expect(bandwidthFrom('10', false)).toBe(10n << 20n);
    expect(bandwidthFrom('10', true)).toBe(10n);
    expect(bandwidthFrom('10K', true)).toBe(10_240n);
    expect(bandwidthFrom('100MiB/s', false)).toBe(100n << 20n);
  });

  it.each(['', 'x', '-1', '1.2.3', '1XB', '1e6', '0x10', '5 5'])('"%s" is neither', (text) => {
    expect(() => parseSize(text)).toThrow('Give a size');
    expect(() => bandwidthFrom(text, false)).toThrow('Give a speed');
    expect(() => parseDuration(text)).toThrow('Give seconds');
  });

  it('times', () => {
    expect(['90', '1.5', '5m', '1h30m', '2d'].map(parseDuration)).toEqual([
      90_000, 1500, 300_000, 5_400_000, 172_800_000,
    ]);
    for (const text of ['0', '5x', '1h 30m', 'm5']) expect(() => parseDuration(text)).toThrow('Give seconds');
    expect([0, 400, 61_000, 3_600_000, 90_061_000].map(duration)).toEqual([
      '0 s',
      '0 s',
      '1 min 1 s',
      '1 h',
      '1 d 1 h',
    ]);
  });

  it('are read with three digits', () => {
    expect([0n, 1023n, 1024n, 20n << 30n, 999n << 20n].map(bytes)).toEqual([
      '0 B',
      '1023 B',
      '1.00 KiB',
      '20.0 GiB',
      '999 MiB',
    ]);
    expect(speed(1n << 63n)).toBe('8.00 EiB/s');
  });
});

const plain = { text: 'x', metadata: {}, violations: [], retryDelayMs: undefined };

describe('a failure', () => {
  it('of a start that is running names no job, and of a job without an id neither', () => {
    for (const reason of ['START_UNDER_WAY', 'DISK_HAS_NO_JOB']) {
      const { next } = failureInWords(new BlockJobError({ ...plain, code: 'NOT_FOUND', reason }));
      expect(next).toMatch(/^blockjob jobs/);
    }
  });

  it('of a newer service has no advice', () => {
    expect(failureInWords(new BlockJobError({ ...plain, code: 'INTERNAL', reason: 'toString' })).next).toBe('');
  });

  it.each([
    ['an answer', { code: 'NOT_FOUND', reason: 'JOB_NOT_FOUND' }, EXIT.refused],
    ['a QEMU that does not answer', { code: 'UNAVAILABLE', reason: 'QEMU_UNREACHABLE' }, EXIT.unreachable],
    ['no answer', { code: 'UNAVAILABLE', reason: '' }, EXIT.unreachable],
    ['the answer of something else', { code: 'UNIMPLEMENTED', reason: '' }, EXIT.unreachable],
    ['a job that ended unseen', { code: 'ABORTED', reason: 'JOB_LOST' }, EXIT.unknown],
    ['a bug', { code: 'INTERNAL', reason: 'BUG' }, EXIT.unknown],
  ] as const)('of %s has its code', (_what, words, exitCode) => {
    expect(failureInWords(new BlockJobError({ ...plain, ...words })).exitCode).toBe(exitCode);
  });

  it('with a lost answer is unknown, and says so', () => {
    const lost = new BlockJobError({ ...plain, code: 'UNAVAILABLE', reason: '' }, { mayHaveHappened: true });
    const { exitCode, lines } = failureInWords(lost);
    expect(exitCode).toBe(EXIT.unknown);
    expect(lines).toContain('Next: blockjob jobs, before you repeat the request');
  });

  it('of several jobs is the worst one, and only all of them done is done', () => {
    expect(worstOf([EXIT.done, EXIT.interrupted, EXIT.unknown, EXIT.failed])).toBe(EXIT.unknown);
    expect(worstOf([EXIT.done, EXIT.interrupted])).toBe(EXIT.interrupted);
    expect(worstOf([EXIT.done, EXIT.done])).toBe(EXIT.done);
    for (const code of Object.values(EXIT)) expect(worstOf([EXIT.done, code])).toBe(code);
  });
});
