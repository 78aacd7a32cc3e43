/**
 * The clock of a state folder, under a kernel that the test moves: over restarts, boots, and from one namespace to
 * another.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { HostClock, type Kernel, timeLeftMs } from '../../../../src/agent/host/host-clock.ts';
import { openedLog } from '../../../../src/agent/journal/ended-job.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import { encodeLine } from '../../../../src/agent/journal/journal.ts';
import { openJobs } from '../../../../src/agent/journal/start-up.ts';
import type { Accepted } from '../../../../src/core/job/journal-entry.ts';
import { present } from '../../../support/checks.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CONCLUDED, ended, jobWith, journalOf, OPTIONS, RUNNING } from '../../core/stories.ts';

const HOUR_MS = 3_600_000;

/** A host with this time since its boot; `up` adds to it. */
function host(upMs: number, counts = 'boot-1 time:[1]'): { readonly kernel: Kernel; up: (ms: number) => void } {
  let now = upMs;
  return { kernel: { upMs: () => now, counts }, up: (ms) => (now += ms) };
}

describe('the clock of a state folder', () => {
  it('begins with zero if no journal has a time, however long the host has been up', () => {
    expect(new HostClock(host(400 * HOUR_MS).kernel).nowMs).toBe(0);
  });

  it('continues while no service runs', () => {
    const { kernel, up } = host(HOUR_MS);
    const before = new HostClock(kernel);
    up(10_000);
    const stamp = before.stamp();
    up(HOUR_MS);
    const after = new HostClock(kernel);
    after.learn(stamp);
    expect(after.nowMs).toBe(10_000 + HOUR_MS);
    expect(after.startedMs).toBe(10_000 + HOUR_MS);
  });

  it.each([
    ['another boot', host(20 * HOUR_MS, 'boot-2 time:[1]')],
    ['another boot, which has been up for less', host(5, 'boot-2 time:[1]')],
    ['another time namespace', host(20 * HOUR_MS, 'boot-1 time:[2]')],
    ['another boot that /proc does not show', host(5)],
  ])('stands still until the first start in %s', (_what, { kernel }) => {
    const clock = new HostClock(kernel);
    clock.learn({ ms: 7 * HOUR_MS, upMs: HOUR_MS, counts: 'boot-1 time:[1]' });
    expect(clock.nowMs).toBe(7 * HOUR_MS);
  });

  it('is as late as the latest time of any journal, in whatever order', () => {
    const { kernel } = host(HOUR_MS);
    const stamps = [5, 9, 7].map((ms) => ({ ms: ms * HOUR_MS, upMs: ms, counts: 'boot-0' }));
    const clock = new HostClock(kernel);
    for (const stamp of stamps) clock.learn(stamp);
    expect(clock.nowMs).toBe(9 * HOUR_MS);
  });

  it('gives the later one of two entries the higher number, also within one instant, and after a start', () => {
    const { kernel } = host(HOUR_MS);
    const clock = new HostClock(kernel);
    const stamps = [clock.stamp(), clock.stamp(), clock.stamp()];
    expect(stamps.map(({ ms }) => ms)).toEqual([0, 1, 2]);
    const next = new HostClock(kernel);
    for (const stamp of stamps) next.learn(stamp);
    expect(next.stamp().ms).toBeGreaterThan(2);
  });

  it('is the kernel’s clock, which nobody can set', () => {
    const clock = new HostClock();
    const { upMs, counts } = clock.stamp();
    expect(Math.abs(upMs - Number(process.hrtime.bigint()) / 1e6)).toBeLessThan(60_000);
    expect(counts).toMatch(/^[0-9a-f-]{36} time:\[\d+\]$/);
  });
});

const [FIRST, SECOND] = ['bj0000000000000002', 'bj0000000000000001'];
const LIMITED: Accepted = { ...ACCEPTED, options: { ...OPTIONS, timeLimitMs: 10_000 } };

describe('a host’s clock that is set', () => {
  afterEach(() => void vi.useRealTimers());

  it.each([
    ['40 days forward', '2026-02-10T00:00:00Z'],
    ['back by years', '2009-01-01T00:00:00Z'],
  ])('%s between two starts leaves a job its remaining time', async (_how, then) => {
    await using dir = await testDir();
    const { kernel, up } = host(HOUR_MS);
    vi.useFakeTimers({ toFake: ['Date'], now: new Date('2026-01-01T00:00:00Z') });
    const log = await JobLog.begin(journalsIn(dir.path, new HostClock(kernel)), LIMITED);
    await log.append(RUNNING);
    await log.close();
    vi.setSystemTime(new Date(then));
    expect(timeLeftMs(log.job, log.clock)).toBe(10_000);
    up(4000);
    const {
      jobs: [found],
    } = await openJobs(journalsIn(dir.path, new HostClock(kernel)), pino({ level: 'silent' }));
    const again = await openedLog(present(found));
    expect(timeLeftMs(again.job, again.clock)).toBe(6000);
    await again.close();
  });

  it('leaves the jobs of a folder in the order in which they were begun', async () => {
    await using dir = await testDir();
    const journals = journalsIn(dir.path, new HostClock(host(HOUR_MS).kernel));
    vi.useFakeTimers({ toFake: ['Date'] });
    const names = ['bj0000000000000003', 'bj0000000000000001', 'bj0000000000000002'];
    for (const [at, job] of names.entries()) {
      vi.setSystemTime(new Date(Date.UTC(2026 - at, 0, 1)));
      const log = await JobLog.begin(journals, { ...ACCEPTED, job });
      await log.append(RUNNING);
      await log.append(CONCLUDED);
      await log.append(ended('CANCELLED'));
      await log.close();
    }
    const { jobs: logs } = await openJobs(journalsIn(dir.path), pino({ level: 'silent' }));
    expect(logs.map(({ job }) => job.accepted.job)).toEqual(names);
  });

  it('does not take the revisions of a job that was found again for those that are lost', async () => {
    await using dir = await testDir();
    vi.useFakeTimers({ toFake: ['Date'], now: 5000 });
    const log = await JobLog.begin(journalsIn(dir.path), { ...ACCEPTED, recovered: true });
    expect(log.oldest).toBeGreaterThan(1_000_000);
    await log.close();
  });
});

describe('a job of an older journal, which does not have its start by this clock', () => {
  it('has its whole time from the start of the service on', () => {
    const { kernel, up } = host(HOUR_MS);
    const clock = new HostClock(kernel);
    clock.learn({ ms: 9 * HOUR_MS, upMs: 5, counts: 'boot-0' });
    up(1000);
    expect(timeLeftMs(jobWith({ options: { timeLimitMs: 5000 } }, RUNNING), clock)).toBe(4000);
  });

  it('has ended when it was first found to have, also if others have a time long before', async () => {
    await using dir = await testDir();
    const { kernel, up } = host(HOUR_MS);
    const folder = join(dir.path, 'jobs');
    await mkdir(folder);
    const stamped = await JobLog.begin(journalsIn(folder, new HostClock(kernel)), { ...ACCEPTED, job: FIRST });
    for (const entry of [RUNNING, CONCLUDED, ended('CANCELLED')]) await stamped.append(entry);
    await stamped.close();
    // An older version is run for some hours, and writes no stamps.
    up(3 * HOUR_MS);
    const story = journalOf({ ...ACCEPTED, job: SECOND }, RUNNING, CONCLUDED, ended('CANCELLED'));
    const lines = story.map((entry) => encodeLine({ ...entry, time: '2100-01-01T00:00:00.000Z' }));
    await writeFile(join(folder, `${SECOND}.jsonl`), lines.join(''));
    for (let start = 0; start < 2; start += 1) {
      const { jobs, saveIndex } = await openJobs(journalsIn(folder, new HostClock(kernel)), pino({ level: 'silent' }));
      await saveIndex();
      expect(jobs.map(({ known }) => [known.accepted.job, Math.round((known.endedMs ?? 0) / HOUR_MS)])).toEqual([
        [FIRST, 0],
        [SECOND, 3],
      ]);
      up(HOUR_MS);
    }
  });
});

describe('a journal', () => {
  it('has the time of this clock in entries that start a count', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    for (const entry of [RUNNING, CONCLUDED, ended('CANCELLED')]) await log.append(entry);
    await log.close();
    const lines = (await readFile(join(dir.path, `${ACCEPTED.job}.jsonl`), 'utf8')).trimEnd().split('\n');
    const told = lines.map((line) => JSON.parse(line.slice(9)) as { entry: string; clock?: { ms: number } });
    expect(told.map(({ entry, clock }) => `${entry} ${typeof clock?.ms}`)).toEqual([
      'accepted number',
      'running undefined',
      'concluded undefined',
      'ended number',
    ]);
    expect(log.known.endedMs).toBeGreaterThan(log.job.beganMs ?? Infinity);
  });
});
