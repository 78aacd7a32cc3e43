/** A watched copy that will not end says so, with the reason and a way out. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Progress } from '../../../src/core/job/progress.ts';
import { StubService } from '../../support/service/stub-service.ts';

const REASON =
  'will not end at this rate: the guest writes 2.0 MiB/s in blocks of 4 KiB, which dirty 32.0 MiB/s in units of 64 KiB, and 20.0 MiB/s are copied; about 96.0 MiB always remain; try a new copy with a granularity of 4 KiB, which makes 2.0 MiB/s of it';

/** A job that runs with these verdicts, slows its guest down, and ends. */
function stalled(...convergences: readonly Progress['convergence'][]): StubService {
  const service = new StubService();
  service.course = [...convergences.map(() => 'RUNNING' as const), 'CANCELLED'];
  const plain = service.viewAt.bind(service);
  service.viewAt = (revision) => {
    const { job, progress } = plain(revision);
    const convergence = convergences[revision - 1];
    const since = '2026-11-30T18:00:00.000Z';
    const guestThrottle = { limitBytesPerSecond: 15 << 20, since, group: 'bj1' };
    const reason = convergence === 'CONVERGING' ? '' : REASON;
    return {
      job: convergence === undefined ? job : { ...job, guestThrottle },
      progress: progress && { ...progress, etaMs: undefined, convergence, reason },
    };
  };
  return service;
}

describe('a copy that will not end', () => {
  it('is shown so in each line, with the limit on its guest', async () => {
    const { stderr } = await stalled('STALLED').run(['watch', 'bj1']);
    expect(stderr).toContain(
      `  vm1/vd0  RUNNING, guest throttled to 15.0 MiB/s  50.0 %, 50.0 MiB of 100 MiB, 10.0 MiB/s, ${REASON}\n`,
    );
  });

  it('is explained above its bar, in full, once until that changes', async () => {
    const { stderr } = await stalled('STALLED', 'STALLED', 'CONVERGING', 'DIVERGING').run(['watch', 'bj1'], {
      isTTY: true,
    });
    const lines = stripVTControlCharacters(stderr).split('\n');
    expect(lines.filter((line) => line.startsWith('vm1/vd0  will not end at this rate'))).toHaveLength(2);
    const at = lines.findIndex((line) => line.startsWith('vm1/vd0  will not end'));
    const [said = '', more = ''] = lines.slice(at);
    expect([said, more.trimStart()].join(' ')).toBe(`vm1/vd0  ${REASON}`);
    // The terminal, which has 160 columns, cuts longer lines off.
    expect(Math.max(said.length, more.length)).toBeLessThan(160);
  });
});
