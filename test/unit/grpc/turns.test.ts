import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Turns } from '../../../src/grpc/door/turns.ts';

/** What has come after so many turns. */
async function after(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await nextTurn();
}

test('one of each connection in a turn, however many calls one has', async () => {
  const came: string[] = [];
  const turns = new Turns<string>(() => true);
  for (let call = 1; call <= 3; call += 1) turns.take('many', () => came.push(`many ${call}`));
  turns.take('few', () => came.push('few 1'));
  expect(came).toEqual([]);
  await after(1);
  expect(came).toEqual(['many 1', 'few 1']);
  await after(2);
  expect(came).toEqual(['many 1', 'few 1', 'many 2', 'many 3']);
});

test('a connection that may have no more waits, and others do not', async () => {
  const came: string[] = [];
  const full = new Set(['slow']);
  const turns = new Turns<string>((connection) => !full.has(connection));
  turns.take('slow', () => came.push('slow'));
  turns.take('other', () => came.push('other'));
  await after(3);
  expect(came).toEqual(['other']);
  full.clear();
  turns.again();
  await after(1);
  expect(came).toEqual(['other', 'slow']);
});

test('of a connection that is forgotten nothing comes', async () => {
  const came: string[] = [];
  const turns = new Turns<string>(() => true);
  turns.take('gone', () => came.push('gone'));
  turns.forget('gone');
  await after(2);
  expect(came).toEqual([]);
});
