import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Refusals } from '../../../src/grpc/refusals.ts';

const SECOND = 1000;

describe('refusals in the log', () => {
  let lines: { readonly msg: string; readonly who?: string; readonly more?: number; readonly reasons?: object }[];
  let refusals: Refusals;
  beforeEach(() => {
    vi.useFakeTimers();
    lines = [];
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        lines.push(JSON.parse(chunk.toString()) as (typeof lines)[number]);
        done();
      },
    });
    const log = pino(sink);
    refusals = new Refusals(log, 60 * SECOND);
    note = (who, reason = 'CALLER_NOT_ALLOWED') => refusals.note({ who, reason }, () => log.info({ who }, 'refused'));
  });
  afterEach(() => {
    refusals[Symbol.dispose]();
    vi.useRealTimers();
  });
  let note: (who: string, reason?: string) => void;

  it('are one line each, at a rate that a person can read', () => {
    for (let n = 0; n < 10; n += 1) note('a');
    vi.advanceTimersByTime(61 * SECOND);
    for (let n = 0; n < 10; n += 1) note('a');
    vi.advanceTimersByTime(61 * SECOND);
    expect(lines.map(({ msg }) => msg)).toEqual(Array.from({ length: 20 }, () => 'refused'));
  });

  it('are counted beyond that, and a line gives the number, by reason', () => {
    for (let n = 0; n < 10_010; n += 1) note('a', n % 2 === 0 ? 'DOMAIN_NOT_FOUND' : 'left');
    expect(lines).toHaveLength(10);
    vi.advanceTimersByTime(61 * SECOND);
    expect(lines).toHaveLength(11);
    const reasons = { DOMAIN_NOT_FOUND: 5000, left: 5000 };
    expect(lines.at(-1)).toMatchObject({
      msg: 'audit: more were refused',
      who: 'a',
      more: 10_000,
      seconds: 60,
      reasons,
    });
    // From then on they are lines again.
    note('a');
    expect(lines).toHaveLength(12);
  });

  it('of one caller do not affect those of another', () => {
    for (let n = 0; n < 100; n += 1) note('a');
    note('b');
    expect(lines.filter(({ who }) => who === 'b')).toHaveLength(1);
  });

  it('of countless callers count as those of one, and cost no memory', () => {
    for (let n = 0; n < 5000; n += 1) note(`caller ${n}`);
    expect(lines).toHaveLength(1010);
    vi.advanceTimersByTime(61 * SECOND);
    expect(lines.at(-1)).toMatchObject({ who: 'others', more: 3990 });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('that were counted are reported at the end, too', () => {
    for (let n = 0; n < 11; n += 1) note('a');
    refusals[Symbol.dispose]();
    expect(lines.at(-1)).toMatchObject({ more: 1 });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('do not keep the process alive if they come after the end, as those of broken handshakes do', () => {
    refusals[Symbol.dispose]();
    for (let n = 0; n < 1000; n += 1) note(`caller ${n}`);
    expect(lines).toHaveLength(10);
    expect(vi.getTimerCount()).toBe(0);
  });
});
