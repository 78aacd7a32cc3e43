/** Running jobs are looked at every two seconds, and an unexpected verdict is written. */
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { everyTwoSeconds } from '../../../../src/agent/job/looks.ts';
import { Progresses } from '../../../../src/agent/job/progresses.ts';
import { Sampler } from '../../../../src/agent/job/sampler.ts';
import type { JobLog } from '../../../../src/agent/journal/job-log.ts';
import { VirtualMachine } from '../../../../src/agent/qemu/virtual-machine.ts';
import { VirtualMachines } from '../../../../src/agent/qemu/virtual-machines.ts';
import { LOOK_MS } from '../../../../src/core/job/convergence.ts';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { Disconnected } from '../../../../src/qmp/errors.ts';
import { ACCEPTED, CONCLUDED, jobOf, jobWith, POLICY, RUNNING, VERDICT } from '../../core/stories.ts';

const MIB = 2 ** 20;
const OTHER = 'bj00000000000000ff';
const logger = pino({ level: 'silent' });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval'] });
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A VM whose mirrors copy so much a second, and a guest with this demand a second. */
function sampled(jobs: readonly Job[], { demandMib = 0, copiesMib = 10, group = '', status = 'none' } = {}) {
  const machine = new VirtualMachine({ socketPath: '/nowhere', givenName: 'vm1', logger });
  vi.spyOn(machine, 'identity', 'get').mockReturnValue({ generation: 1 } as never);
  const machines = new VirtualMachines({ folder: undefined, named: [], logger });
  vi.spyOn(machines, 'of').mockReturnValue(machine);
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const asksJobs = vi.spyOn(machine, 'blockJobs').mockImplementation(async () => {
    const running = { status: 'running', paused: false, ioStatus: 'ok', speedBytesPerSecond: 0 } as const;
    const offsetBytes = seconds() * copiesMib * MIB;
    const known = jobs.map(({ accepted }) => ({ id: accepted.job, ...running, offsetBytes, lengthBytes: 4000 * MIB }));
    return await Promise.resolve(known);
  });
  const asksDevices = vi.spyOn(machine, 'blockDevices').mockImplementation(async () => {
    const written = { operations: seconds() * demandMib * 16, bytes: seconds() * demandMib * MIB };
    return await Promise.resolve([{ device: '', qdev: ACCEPTED.qdev, node: undefined, written }]);
  });
  const inserted = group === '' ? {} : { group, iops: 5 };
  const answers: Readonly<Record<string, unknown>> = {
    'query-block': [{ device: '', qdev: ACCEPTED.qdev, inserted }],
    'query-status': { status: 'running', running: true },
    'query-migrate': { status },
  };
  const asks = vi.spyOn(machine, 'execute').mockImplementation(async ({ execute }) => {
    return await Promise.resolve(answers[execute]);
  });
  const entries: EntryBody[] = [];
  const offer = async (entry: EntryBody) => await Promise.resolve(void entries.push(entry));
  const logs = jobs.map((job) => ({ job, offer }) as unknown as JobLog);
  const progresses = new Progresses(machines, () => undefined);
  const sampler = new Sampler({ machines, progresses, active: () => logs, logger });
  const looks = everyTwoSeconds(() => sampler.sample());
  return { progresses, asks, asksJobs, asksDevices, entries, [Symbol.dispose]: () => looks[Symbol.dispose]() };
}

async function pass(windows: number): Promise<void> {
  for (let window = 0; window < windows; window++) await vi.advanceTimersByTimeAsync(LOOK_MS);
}

it('asks a VM two questions every two seconds, however many jobs it has', async () => {
  using here = sampled([jobOf(RUNNING), jobWith({ job: OTHER }, RUNNING)]);
  await pass(3);
  expect(here.asksJobs).toHaveBeenCalledTimes(3);
  expect(here.asksDevices).toHaveBeenCalledTimes(3);
  expect(here.progresses.of(jobOf(RUNNING))).toMatchObject({ convergence: 'CONVERGING' });
  expect(here.progresses.of(jobWith({ job: OTHER }, RUNNING))).toMatchObject({ convergence: 'CONVERGING' });
});

it('does not ask for jobs that are starting, or that QEMU has concluded', async () => {
  using here = sampled([jobOf(), jobOf(RUNNING, CONCLUDED)]);
  await pass(3);
  expect(here.asksJobs).not.toHaveBeenCalled();
});

it('does not ask a QEMU again that has not answered, until it answers', async () => {
  using here = sampled([jobOf(RUNNING)]);
  const answer = Promise.withResolvers<never>();
  here.asksJobs.mockReturnValueOnce(answer.promise);
  await pass(4);
  expect(here.asksJobs).toHaveBeenCalledTimes(1);
  answer.reject(new Disconnected('closed'));
  await pass(2);
  expect(here.asksJobs).toHaveBeenCalledTimes(3);
});

it('writes nothing of a job that ends', async () => {
  using here = sampled([jobOf(RUNNING)]);
  await pass(5);
  expect(here.entries).toEqual([]);
});

it('writes the verdict on a job that does not end, once, with its numbers', async () => {
  using here = sampled([jobOf(RUNNING)], { demandMib: 40 });
  await pass(3);
  expect(here.entries).toMatchObject([
    {
      entry: 'verdict',
      convergence: 'STALLED',
      because: 'GUEST',
      bytesPerSecond: 10 * MIB,
      demandBytesPerSecond: 40 * MIB,
    },
  ]);
});

it('writes the step of an end policy when its patience has passed, and not if the job ends', async () => {
  const endPolicy = { ...POLICY, patienceMs: 8000, switchToBlocking: true };
  const job = jobWith({ options: { endPolicy } }, RUNNING, VERDICT);
  // The rest is 4000 MiB less what is copied: near only for a very fast copy.
  using here = sampled([job], { demandMib: 4000, copiesMib: 800 });
  await pass(3);
  expect(here.entries).toEqual([]);
  await pass(3);
  expect(here.entries).toEqual([]);
  await pass(1);
  expect(here.entries).toMatchObject([{ entry: 'policy-step', what: 'BLOCKING' }]);
});

it('begins to count again for a job that ends in between', async () => {
  const endPolicy = { ...POLICY, patienceMs: 8000, switchToBlocking: true };
  const ending = jobWith({ options: { endPolicy } }, RUNNING);
  using here = sampled([ending], { demandMib: 1, copiesMib: 800 });
  await pass(7);
  expect(here.entries).toEqual([]);
});

const SLOWS = {
  ...POLICY,
  patienceMs: 8000,
  guestThrottle: { floorBytesPerSecond: 65_536, maxDurationMs: 60_000 },
};

it('asks for a slower guest by the current numbers, when the patience has passed', async () => {
  using here = sampled([jobWith({ options: { endPolicy: SLOWS } }, RUNNING, VERDICT)], { demandMib: 40 });
  await pass(6);
  expect(here.asks).not.toHaveBeenCalled();
  await pass(1);
  expect(here.entries).toEqual([{ entry: 'throttle-requested', limitBytesPerSecond: 7 * MIB }]);
});

it('does not slow down a guest that migrates', async () => {
  using here = sampled([jobWith({ options: { endPolicy: SLOWS } }, RUNNING, VERDICT)], {
    demandMib: 40,
    status: 'active',
  });
  await pass(8);
  expect(here.asks).toHaveBeenCalled();
  expect(here.entries).toEqual([]);
});

it.each([
  ['its floor is too high', { floorBytesPerSecond: 100 * MIB }, '', 'GUEST_FLOOR_TOO_HIGH'],
  ['another client limits it', {}, 'theirs', 'GUEST_LIMIT_SHARED'],
])('tries to slow a guest down after each patience, although %s', async (_why, more, group, reason) => {
  const endPolicy = { ...SLOWS, guestThrottle: { ...SLOWS.guestThrottle, ...more } };
  using here = sampled([jobWith({ options: { endPolicy } }, RUNNING, VERDICT)], { demandMib: 40, group });
  await pass(10);
  const tried = { entry: 'throttle-not-taken', failure: { reason } };
  expect(here.entries).toMatchObject([tried]);
  await pass(4);
  expect(here.entries).toMatchObject([tried, tried]);
});
