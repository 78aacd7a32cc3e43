import { expect, test } from 'vitest';
import { Shares } from '../../../src/grpc/door/shares.ts';

test('one peer has its share and no more, and released calls can be taken again', () => {
  const shares = new Shares({ inAll: 3, ofOne: 2 });
  expect([shares.take('a'), shares.take('a'), shares.take('a')]).toEqual([true, true, false]);
  expect([shares.take('b'), shares.take('b')]).toEqual([true, false]);
  shares.giveBack('a');
  expect([shares.take('b'), shares.take('a')]).toEqual([true, false]);
  for (const peer of ['a', 'b', 'b']) shares.giveBack(peer);
  expect([shares.take('c'), shares.take('c'), shares.take('a'), shares.take('a')]).toEqual([true, true, true, false]);
});
