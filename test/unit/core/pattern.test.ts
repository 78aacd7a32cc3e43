import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { fits } from '../../../src/core/pattern.ts';
import { cpuMsSince } from '../../support/cpu-time.ts';

it.each([
  ['*', '', true],
  ['*', 'web1.qmp', true],
  ['*.qmp', 'web1.qmp', true],
  ['*.qmp', 'web1.qmp.old', false],
  ['*.qmp', 'web1qmp', false],
  ['web1', 'web1', true],
  ['web1', 'web12', false],
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['a*b*a', 'aba', true],
  ['a*ab*b', 'aab', false],
  ['a.c', 'abc', false],
])('%s and "%s": %s', (pattern, text, does) => {
  expect(fits(text, pattern)).toBe(does);
});

it('matches like the equal regular expression', () => {
  const few = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 10 });
  const texts = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 12 });
  fc.assert(
    fc.property(few, texts, (pattern, text) => {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(text);
      expect(fits(text, pattern)).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});

it.each([
  ['many stars', `${'*a'.repeat(10_000)}*b`],
  ['a part that nearly fits everywhere', `*${'a'.repeat(50_000)}b${'a'.repeat(50_000)}*`],
  ['a part that fits except for its first character', `*b${'a'.repeat(100_000)}*`],
])('takes no longer for %s', (_what, pattern) => {
  const began = process.threadCpuUsage();
  expect(fits('a'.repeat(320_000), pattern)).toBe(false);
  // Milliseconds where it is linear, and many seconds where it is not.
  expect(cpuMsSince(began)).toBeLessThan(1000);
});
