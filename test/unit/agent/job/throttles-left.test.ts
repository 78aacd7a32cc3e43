import { pino } from 'pino';
import { expect, it } from 'vitest';
import { ThrottlesLeft } from '../../../../src/agent/job/throttles-left.ts';
import { JobsInMemory } from '../../../../src/agent/journal/jobs-in-memory.ts';
import type { QmpCommand } from '../../../../src/core/qemu/commands.ts';
import { OutcomeUnknown } from '../../../../src/qmp/errors.ts';
import { JOB } from '../../core/stories.ts';

const QDEV = '/machine/peripheral/vd0/virtio-backend';

/** A QEMU with a limit that a job without a journal has left. It answers nothing for a while. */
function machine(silentFor: number) {
  const sent: QmpCommand[] = [];
  let silences = silentFor;
  return {
    sent,
    identity: {} as never,
    name: 'vm1',
    jobs: async () => await Promise.resolve([]),
    execute: async (command: QmpCommand) => {
      sent.push(command);
      silences -= 1;
      if (silences >= 0) throw new OutcomeUnknown(command.execute, 'timeout');
      return await Promise.resolve([{ qdev: QDEV, inserted: { bps_wr: 7, group: JOB } }]);
    },
  };
}

function left(isOurs: boolean): ThrottlesLeft {
  const logger = pino({ level: 'silent' });
  const whose = { wasOurs: async () => await Promise.resolve(isOurs) };
  return new ThrottlesLeft({ jobs: { known: new JobsInMemory(logger) }, whose, logger }, 1);
}

it.each([0, 3])('a limit that a job has left is lifted when QEMU answers, after %d silences', async (silentFor) => {
  using throttles = left(true);
  const qemu = machine(silentFor);
  await throttles.lift(qemu);
  await expect.poll(() => qemu.sent.at(-1)?.execute, { timeout: 5000 }).toBe('block_set_io_throttle');
  expect(qemu.sent.at(-1)).toMatchObject({
    arguments: {
      id: QDEV,
      bps: 0,
      bps_rd: 0,
      bps_wr: 0,
      iops: 0,
      iops_rd: 0,
      iops_wr: 0,
    },
  });
  expect(qemu.sent.slice(0, -1).map(({ execute }) => execute)).toEqual(
    Array.from({ length: silentFor + 1 }, () => 'query-block'),
  );
});

it('a limit of a job of another service stays', async () => {
  using throttles = left(false);
  const qemu = machine(0);
  await throttles.lift(qemu);
  expect(qemu.sent.map(({ execute }) => execute)).toEqual(['query-block']);
});
