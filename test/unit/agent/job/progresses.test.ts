/** The copied bytes of jobs, counted from QEMU's answers. */
import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { Progresses } from '../../../../src/agent/job/progresses.ts';
import { VirtualMachine } from '../../../../src/agent/qemu/virtual-machine.ts';
import { VirtualMachines } from '../../../../src/agent/qemu/virtual-machines.ts';
import type { QemuBlockJob } from '../../../../src/core/qemu/replies.ts';
import { JOB, jobOf } from '../../core/stories.ts';

function progresses(sampled: (job: string) => void = () => undefined): Progresses {
  return new Progresses(
    new VirtualMachines({ folder: undefined, named: [], logger: pino({ level: 'silent' }) }),
    sampled,
  );
}

function at(offsetBytes: number, more: Partial<QemuBlockJob> = {}): QemuBlockJob {
  const running = { status: 'running', paused: false, ioStatus: 'ok', speedBytesPerSecond: 0 } as const;
  return { id: JOB, ...running, offsetBytes, lengthBytes: 1000, ...more };
}

it('counts each byte of a job once, however often QEMU is asked, also for several jobs', () => {
  const here = progresses();
  here.take([at(100)]);
  here.take([at(100)]);
  here.take([at(700), at(50, { id: 'bj00000000000000ff' }), at(9000, { id: 'not-ours' })]);
  expect(here.copiedBytes).toBe(750);
  here.forget(JOB);
  expect(here.copiedBytes).toBe(750);
});

it('names the jobs with new progress, and no other', () => {
  const told: string[] = [];
  const here = progresses((job) => told.push(job));
  here.take([at(100)]);
  here.take([at(50, { id: 'bj00000000000000ff' }), at(9000, { id: 'not-ours' }), at(100, { status: 'concluded' })]);
  here.verify(jobOf(), 512, 4096);
  expect(told).toEqual([JOB, 'bj00000000000000ff', JOB]);
});

it('does not count bytes again that a job had copied before this process began', () => {
  const here = progresses();
  here.goOn(jobOf());
  here.take([at(600)]);
  expect(here.copiedBytes).toBe(0);
  here.take([at(650)]);
  expect(here.copiedBytes).toBe(50);
});

it('shows the progress of a comparison, until the copy has begun', () => {
  const here = progresses();
  here.verify(jobOf(), 512, 4096);
  expect(here.of(jobOf())).toMatchObject({ percent: 0, currentBytes: 0, verified: { bytes: 512, ofBytes: 4096 } });
  here.verify(jobOf(), 4096, 4096);
  here.take([at(100)]);
  expect(here.of(jobOf())).toMatchObject({ percent: 10, currentBytes: 100 });
  expect(here.of(jobOf())?.verified).toBeUndefined();
  expect(here.copiedBytes).toBe(100);
});

afterEach(() => {
  vi.useRealTimers();
});

/** A VM whose QEMU answers when the test says so. */
function askedVm() {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  const logger = pino({ level: 'silent' });
  const machine = new VirtualMachine({ socketPath: '/nowhere', givenName: 'vm1', logger });
  const machines = new VirtualMachines({ folder: undefined, named: [], logger });
  vi.spyOn(machines, 'of').mockReturnValue(machine);
  let offset = 0;
  const asks = vi.spyOn(machine, 'blockJobs').mockImplementation(async () => {
    offset += 100;
    return await Promise.resolve([at(offset)]);
  });
  const here = new Progresses(machines, () => undefined);
  const log = { job: jobOf(), writtenMs: -Infinity };
  return {
    machine,
    here,
    asks,
    /** The copied bytes that a caller sees who asks now. */
    see: async (writtenMs = -Infinity) => {
      await here.refresh([{ ...log, writtenMs }]);
      return here.of(log.job)?.currentBytes;
    },
  };
}

it('callers share an answer that is at most five milliseconds old', async () => {
  const { see, asks } = askedVm();
  expect(await Promise.all([see(), see(), see()])).toEqual([100, 100, 100]);
  await vi.advanceTimersByTimeAsync(5);
  expect(await see()).toBe(100);
  await vi.advanceTimersByTimeAsync(1);
  expect(await Promise.all([see(), see()])).toEqual([200, 200]);
  expect(asks).toHaveBeenCalledTimes(2);
});

it('a caller does not get an answer from before an entry of the job', async () => {
  const { see } = askedVm();
  expect(await see()).toBe(100);
  await vi.advanceTimersByTimeAsync(1);
  const writtenMs = performance.now();
  await vi.advanceTimersByTimeAsync(1);
  expect(await see(writtenMs)).toBe(200);
  expect(await see(writtenMs)).toBe(200);
});

it('a caller does not wait for a question from before an event of QEMU', async () => {
  const { see, asks, machine } = askedVm();
  const before = see();
  machine.wake.notify();
  expect(await see()).toBe(200);
  await before;
  expect(asks).toHaveBeenCalledTimes(2);
});

it('a question without an answer is asked again', async () => {
  const { see, asks } = askedVm();
  asks.mockRejectedValueOnce(new Error('the connection was lost'));
  expect(await Promise.all([see(), see()])).toEqual([undefined, undefined]);
  expect(await see()).toBe(100);
});
