/** A position of a watcher of all jobs, as text. It returns unchanged, for the same jobs alone, and is bounded. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Positions } from '../../../src/core/jobs-message.ts';
import { positionsOf, ResumeTokens } from '../../../src/grpc/resume-token.ts';

const FILTER = { domain: 'vm1', labels: { b: '2', a: '1' }, createdBy: 'ops' };
const LONGEST = 131_072;

function tokenOf(positions: Positions, filter: object = FILTER): string {
  return new ResumeTokens({ domain: '', ...filter, positions }).after({ is: 'HEARTBEAT', positions: new Map() });
}

function fleetOf(hosts: number): Positions {
  const place = { epoch: '01234567.abcdef', at: 123_456_789_012 };
  return new Map(Array.from({ length: hosts }, (_, at) => [`compute-${at}.example.org`, place]));
}

describe('a resume token', () => {
  it('holds the position on each host, whatever their names', () => {
    const epoch = fc.stringMatching(/^[0-9a-f]{1,8}$/);
    const place = fc.record({ epoch, at: fc.nat({ max: Number.MAX_SAFE_INTEGER }) });
    const hosts = fc.array(fc.tuple(fc.string({ minLength: 1 }), place), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(hosts, (all) => {
        const positions = new Map(all);
        expect(positionsOf(tokenOf(positions), FILTER)).toEqual(positions);
      }),
    );
  });

  it('is valid for the same filters, in any order of labels', () => {
    const token = tokenOf(fleetOf(1));
    expect(positionsOf(token, { ...FILTER, labels: { a: '1', b: '2' } }).size).toBe(1);
    for (const other of [{ domain: 'vm2' }, { labels: { a: '1' } }, { createdBy: '' }, { activeOnly: true }])
      expect(() => positionsOf(token, { ...FILTER, ...other })).toThrow('other filters');
    expect(positionsOf(token, { ...FILTER, activeOnly: false }).size).toBe(1);
    expect(() => positionsOf('nonsense', FILTER)).toThrow('is not a token of WatchJobs');
    expect(positionsOf('', FILTER).size).toBe(0);
  });

  it('is in each message of a small fleet; in a large one in every hundredth, and when it matters', () => {
    const moved = { is: 'UNREACHABLE', host: 'h', why: { reason: 'BUG', text: '', metadata: {} } } as const;
    const count = (hosts: number) => {
      const tokens = new ResumeTokens({ domain: '', positions: fleetOf(hosts) });
      return Array.from({ length: 1000 }, () => tokens.after(moved)).filter((token) => token !== '').length;
    };
    expect(count(5)).toBe(1000);
    expect(count(1000)).toBe(10);
    const tokens = new ResumeTokens({ domain: '', positions: fleetOf(1000) });
    expect(tokens.after({ is: 'HEARTBEAT', positions: new Map() })).not.toBe('');
  });

  it('is never longer than a request may have it: hosts that do not fit start again with a snapshot', () => {
    const token = tokenOf(fleetOf(10_000));
    expect(token.length).toBeLessThanOrEqual(LONGEST);
    expect(token.length).toBeGreaterThan(LONGEST - 200);
    expect(tokenOf(fleetOf(1000)).length).toBeLessThan(LONGEST);
    expect(positionsOf(token, FILTER).size).toBeGreaterThan(1000);
  });

  it('does not continue after half a snapshot', () => {
    const tokens = new ResumeTokens({ domain: '', positions: fleetOf(1) });
    const [host = ''] = fleetOf(1).keys();
    expect(tokens.after({ is: 'SNAPSHOT', host, lost: undefined })).toBe('');
    const position = { epoch: 'e', at: 1 };
    expect(tokens.after({ is: 'SYNCED', host, starting: [], position })).not.toBe('');
  });
});
