import { describe, expect, it } from 'vitest';
import { cut, cutError, cutText } from '../../../src/lib/cut.ts';

const LONG = '\u0000'.repeat(60_000);

describe('values of others', () => {
  it('stay unchanged when they are short', () => {
    const fields = {
      caller: 'spiffe://site/x',
      code: 5,
      isSo: true,
      nothing: null,
      missing: undefined,
      list: ['a', 1],
    };
    expect(cut(fields)).toEqual(fields);
    expect(cut({ when: new Date(0) })).toEqual({ when: '1970-01-01T00:00:00.000Z' });
  });

  it('are cut anywhere, with their former length', () => {
    expect(cutText('abc', 2)).toBe('ab… (3 characters)');
    expect(cut({ a: LONG })).toEqual({ a: `${LONG.slice(0, 512)}… (60000 characters)` });
  });

  it.each([
    ['many texts', Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`k${n}`, LONG]))],
    ['a long list', { list: Array.from({ length: 100_000 }, () => LONG) }],
    ['a long name', { [LONG]: 1 }],
    ['bytes', { bytes: Buffer.alloc(60_000) }],
    ['an error', { why: new Error(LONG) }],
    ['a deep value', Array.from({ length: 5000 }).reduce<object>((inner) => ({ inner, LONG }), {})],
    ['a value that writes itself', { toJSON: () => ({ toJSON: () => LONG }) }],
  ])('%s: a line has its bound', (_, fields) => {
    expect(JSON.stringify(cut(fields)).length).toBeLessThan(32_768);
  });

  it('is well-formed at the cut, too', () => {
    expect(cutText('😀'.repeat(300), 511).isWellFormed()).toBe(true);
  });
});

describe('an error', () => {
  it('keeps its stack and those of its causes, whatever its message', () => {
    const error = Object.assign(new TypeError(`${LONG}\nx`, { cause: new Error('why', { cause: 'a text' }) }), {
      code: 'EIO',
      failure: { metadata: { path: LONG } },
    });
    const { type, stack, code, ...others } = cutError(error);
    expect({ type, code }).toEqual({ type: 'TypeError', code: 'EIO' });
    expect(stack).toMatch(/^TypeError: .{0,600}\n {4}at .*\ncaused by: Error: why\n {4}at .*\ncaused by: a text$/s);
    expect(JSON.stringify({ stack, ...others }).length).toBeLessThan(32_768);
  });

  it('that is its own cause has an end', () => {
    const error = new Error('x');
    error.cause = error;
    expect(String(cutError(error)['stack']).match(/caused by/g)).toHaveLength(4);
  });
});
