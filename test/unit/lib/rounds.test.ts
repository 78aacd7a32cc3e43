import { expect, test } from 'vitest';
import { Rounds } from '../../../src/lib/rounds.ts';

test('one pass answers all who asked before it began, and the next one who asked meanwhile', async () => {
  const passes: (readonly number[])[] = [];
  const first = Promise.withResolvers<void>();
  const rounds = new Rounds(async (numbers: readonly number[]) => {
    passes.push(numbers);
    if (passes.length === 1) await first.promise;
    return numbers.map((one) => one * one);
  });
  const before = [rounds.ask(1), rounds.ask(2)];
  await expect.poll(() => passes).toEqual([[1, 2]]);
  const meanwhile = [rounds.ask(3), rounds.ask(4)];
  first.resolve();
  expect(await Promise.all(before)).toEqual([1, 4]);
  expect(await Promise.all(meanwhile)).toEqual([9, 16]);
  expect(passes).toEqual([
    [1, 2],
    [3, 4],
  ]);
});

test('a pass that rejects does so for those who asked, and not for the next', async () => {
  let passes = 0;
  const rounds = new Rounds(async (words: readonly string[]) => {
    passes += 1;
    if (passes === 1) throw new Error('no answer');
    return words;
  });
  const both = await Promise.allSettled([rounds.ask('a'), rounds.ask('b')]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await rounds.ask('c')).toBe('c');
});
