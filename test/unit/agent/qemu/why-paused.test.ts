import { describe, expect, test } from 'vitest';
import { WhyPaused } from '../../../../src/agent/qemu/why-paused.ts';
import type { QemuBlockJob } from '../../../../src/core/qemu/replies.ts';

const ID = 'bj0123456789abcdef';
const OK: QemuBlockJob = {
  id: ID,
  status: 'running',
  paused: false,
  ioStatus: 'ok',
  offsetBytes: 0,
  lengthBytes: 1,
  speedBytesPerSecond: 0,
};
const PAUSED: QemuBlockJob = { ...OK, status: 'paused', paused: true };
const FULL: QemuBlockJob = { ...PAUSED, ioStatus: 'nospace' };

function error(action = 'stop', device = ID) {
  const data = { device, operation: 'write', action };
  return { event: 'BLOCK_JOB_ERROR', data, timestamp: undefined };
}

/** The report about the job in each of these answers of QEMU. */
async function told(why: WhyPaused, ...answers: readonly QemuBlockJob[]): Promise<readonly (string | undefined)[]> {
  const all: (string | undefined)[] = [];
  for (const answer of answers) all.push((await why.of(async () => await Promise.resolve([answer])))[0]?.ioStatus);
  return all;
}

describe('why a job is paused', () => {
  test('is known when QEMU has forgotten it, until the job goes on', async () => {
    expect(await told(new WhyPaused(), FULL, PAUSED, PAUSED, OK, PAUSED)).toEqual([
      'nospace',
      'nospace',
      'nospace',
      'ok',
      'ok',
    ]);
  });

  test('is an error, if only its event came, until QEMU says which one', async () => {
    const why = new WhyPaused();
    why.take(error());
    expect(await told(why, PAUSED, FULL, PAUSED)).toEqual(['failed', 'nospace', 'nospace']);
  });

  test('uses an event also while an older answer is on its way', async () => {
    const why = new WhyPaused();
    const answer = Promise.withResolvers<readonly QemuBlockJob[]>();
    const asked = why.of(async () => await answer.promise);
    answer.resolve([OK]);
    why.take(error());
    expect((await asked)[0]?.ioStatus).toBe('ok');
    expect(await told(why, PAUSED)).toEqual(['failed']);
  });

  test('is not an error that ends the job, nor one of a job that is not ours', async () => {
    const why = new WhyPaused();
    why.take(error('report'));
    why.take(error('stop', 'drive0'));
    expect(await told(why, PAUSED)).toEqual(['ok']);
  });

  test('is forgotten with the job', async () => {
    const why = new WhyPaused();
    await told(why, FULL);
    await why.of(async () => await Promise.resolve([]));
    expect(await told(why, PAUSED)).toEqual(['ok']);
  });
});
