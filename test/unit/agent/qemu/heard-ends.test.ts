import { describe, expect, it } from 'vitest';
import { HeardEnds } from '../../../../src/agent/qemu/heard-ends.ts';

const JOB = 'bj0011223344556677';

function heard(...events: readonly [event: string, data: object][]): HeardEnds {
  const ends = new HeardEnds();
  for (const [event, data] of events) {
    ends.take({ event, data: { device: JOB, ...data }, timestamp: { seconds: 0, microseconds: 0 } });
  }
  return ends;
}

describe('the reported ends of jobs', () => {
  it.each(['read', 'write'])('a %s that failed, and the error that came of it', (operation) => {
    const ends = heard(
      ['BLOCK_JOB_ERROR', { operation, action: 'report' }],
      ['BLOCK_JOB_COMPLETED', { error: 'Input/output error' }],
    );
    expect(ends.failedTo(JOB)).toBe(operation);
    expect(ends.errorOf(JOB)).toBe('Input/output error');
  });

  it('an error at which the job paused is not an end', () => {
    const ends = heard(['BLOCK_JOB_ERROR', { operation: 'write', action: 'stop' }], ['BLOCK_JOB_CANCELLED', {}]);
    expect(ends.failedTo(JOB)).toBeUndefined();
    expect(ends.errorOf(JOB)).toBe('Operation canceled');
  });

  it('a success, a job of somebody else, and other events leave nothing', () => {
    const ends = heard(
      ['BLOCK_JOB_COMPLETED', {}],
      ['BLOCK_JOB_ERROR', { device: 'foreign', operation: 'write', action: 'report' }],
      ['BLOCK_JOB_READY', {}],
    );
    expect([ends.failedTo(JOB), ends.errorOf(JOB), ends.failedTo('foreign')]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
