import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Turns } from '../../../src/grpc/door/turns.ts';

class Line {
  readonly peer: string;
  mayHaveMore = true;

  constructor(peer: string) {
    this.peer = peer;
  }
}

const call = (come: () => void, mayCome = () => true) => ({ come, mayCome });

async function after(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await nextTurn();
}

test('each peer has one call per turn, however many calls and connections it has', async () => {
  const came: string[] = [];
  const turns = new Turns<Line>();
  const [first, second, other] = [new Line('many'), new Line('many'), new Line('few')];
  for (let at = 1; at <= 3; at += 1) {
    turns.take(
      first,
      call(() => came.push(`first ${at}`)),
    );
  }
  turns.take(
    second,
    call(() => came.push('second 1')),
  );
  turns.take(
    other,
    call(() => came.push('other 1')),
  );
  expect(came).toEqual([]);
  await after(1);
  expect(came).toEqual(['first 1', 'other 1', 'second 1', 'first 2', 'first 3']);
});

test('a peer with many calls lets in sixteen before the server looks for others', async () => {
  const came: string[] = [];
  const turns = new Turns<Line>();
  const [many, few] = [new Line('many'), new Line('few')];
  for (let at = 1; at <= 40; at += 1) {
    turns.take(
      many,
      call(() => came.push('many')),
    );
  }
  await after(1);
  expect(came).toHaveLength(16);
  turns.take(
    few,
    call(() => came.push('few')),
  );
  await after(1);
  expect(came).toHaveLength(32);
  expect(came.indexOf('few')).toBeLessThan(18);
});

test('a connection at its limit waits, and others do not, of the same peer too', async () => {
  const came: string[] = [];
  const turns = new Turns<Line>();
  const [slow, quick] = [new Line('peer'), new Line('peer')];
  slow.mayHaveMore = false;
  turns.take(
    slow,
    call(() => came.push('slow')),
  );
  turns.take(
    quick,
    call(() => came.push('quick')),
  );
  await after(3);
  expect(came).toEqual(['quick']);
  slow.mayHaveMore = true;
  turns.again();
  await after(1);
  expect(came).toEqual(['quick', 'slow']);
});

test('a forgotten connection gets no more calls', async () => {
  const came: string[] = [];
  const turns = new Turns<Line>();
  const [gone, stays] = [new Line('gone'), new Line('stays')];
  turns.take(
    gone,
    call(() => came.push('gone')),
  );
  turns.take(
    stays,
    call(() => came.push('stays')),
  );
  turns.forget(gone);
  turns.forget(gone);
  await after(2);
  expect(came).toEqual(['stays']);
});

test('a call that is not ready is skipped', async () => {
  const came: string[] = [];
  const turns = new Turns<Line>();
  const line = new Line('peer');
  let isThere = false;
  turns.take(
    line,
    call(
      () => came.push('half'),
      () => isThere,
    ),
  );
  turns.take(
    line,
    call(() => came.push('whole')),
  );
  await after(3);
  expect(came).toEqual(['whole']);
  isThere = true;
  turns.again();
  await after(1);
  expect(came).toEqual(['whole', 'half']);
});
