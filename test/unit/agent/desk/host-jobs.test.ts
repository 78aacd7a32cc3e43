/** A watch of all jobs of a host: a snapshot, then each entry once; and after a token each missed entry. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { Grant } from '../../../../src/core/grant.ts';
import { NO_HISTORY, observe } from '../../../../src/core/job/progress.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { JobsWatcher, JournalJobs } from '../../../support/service/journal-jobs.ts';
import { CANCEL, ended, READY, RUNNING } from '../../core/stories.ts';

const END = [RUNNING, READY, CANCEL, ended('CANCELLED')] as const;

const PROGRESS = observe(NO_HISTORY, {
  atMs: 0,
  time: '2026-01-01T00:00:00Z',
  offsetBytes: 0,
  lengthBytes: 10,
  ready: false,
}).progress;

/** The number of entries in memory. */
const KEPT = 20;

async function site() {
  const dir = await testDir();
  const jobs = await JournalJobs.open(dir.path, 'host1', KEPT);
  const close = async () => {
    await jobs[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  };
  return { dir: dir.path, jobs, [Symbol.asyncDispose]: close };
}

describe('a watch of all jobs', () => {
  it('begins with the existing jobs, says so, and continues with each entry of them and of new ones', async () => {
    await using at = await site();
    const one = await at.jobs.begin();
    await at.jobs.write(one, RUNNING);
    const watcher = new JobsWatcher(at.jobs);
    await watcher.until('complete');
    await at.jobs.write(one, READY);
    const two = await at.jobs.begin();
    await at.jobs.write(two, RUNNING);
    await watcher.until('STATE 1:2');
    await watcher.leave();
    const begin = 'snapshot of host1, SNAPSHOT 0:2, synced host1, complete';
    expect(watcher.seen.join(', ')).toBe(`${begin}, STATE 0:3, STATE 1:1, STATE 1:2`);
  });

  it('continues after its position with the missed events: of running jobs, of ended ones, and of new ones', async () => {
    await using at = await site();
    const one = await at.jobs.begin();
    const two = await at.jobs.begin();
    await at.jobs.write(one, RUNNING);
    const before = new JobsWatcher(at.jobs);
    await before.until('complete');
    await before.leave();
    await at.jobs.write(two, ...END);
    await at.jobs.write(one, READY);
    const three = await at.jobs.begin();
    await at.jobs.write(three, ...END);
    const { positions } = before;
    const after = new JobsWatcher(at.jobs, { positions });
    await after.until('complete');
    await after.leave();
    const missed = 'STATE 1:2, STATE 1:3, STATE 1:4, STATE 1:5, STATE 0:3';
    const fresh = 'STATE 2:1, STATE 2:2, STATE 2:3, STATE 2:4, STATE 2:5';
    expect(after.seen.join(', ')).toBe(`${missed}, ${fresh}, synced host1, complete`);
  });

  it('continues from any position, also of an earlier service', async () => {
    await using at = await site();
    const watcher = new JobsWatcher(at.jobs);
    await watcher.until('complete');
    const logs = await Promise.all([at.jobs.begin(), at.jobs.begin(), at.jobs.begin()]);
    await Promise.all(logs.map(async (log) => await at.jobs.write(log, RUNNING, READY)));
    await watcher.until(/:3$/, 3);
    const { positions } = watcher;
    await watcher.leave();
    await using again = await JournalJobs.open(at.dir, 'host1');
    const all = new JobsWatcher(again, { positions });
    await all.until('complete');
    expect(all.seen).toEqual(['synced host1', 'complete']);
    await again.begin({ job: 'bj00000000000000ff' });
    await all.until('STATE ff:1');
    await all.leave();
  });

  it('starts again, and says so, after a position of another order, and after one that is too old', async () => {
    await using at = await site();
    await at.jobs.begin();
    const seenFrom = async (epoch: string, place: number) => {
      const watcher = new JobsWatcher(at.jobs, { positions: new Map([['host1', { epoch, at: place }]]) });
      await watcher.until('complete');
      await watcher.leave();
      return watcher.seen;
    };
    const anew = ['snapshot of host1, compacted', 'SNAPSHOT 0:1', 'synced host1 0', 'complete'];
    const { epoch } = at.jobs.hostJobs;
    expect(await seenFrom('another', 0)).toEqual(anew);
    expect(await seenFrom(epoch, 1e12)).toEqual(anew);
    expect(await seenFrom(epoch, 0)).toEqual(['STATE 0:1', 'synced host1 0', 'complete']);
    expect(await seenFrom(epoch, -86_500_000)).toEqual(anew);
  });

  it('has another order in a folder that has lost its own', async () => {
    await using at = await site();
    const { epoch } = at.jobs.hostJobs;
    expect((await JournalJobs.open(at.dir, 'host1')).hostJobs.epoch).toBe(epoch);
    await rm(join(at.dir, 'order'));
    expect((await JournalJobs.open(at.dir, 'host1')).hostJobs.epoch).not.toBe(epoch);
  });

  it('says which jobs are starting, again when one of them has failed', async () => {
    await using at = await site();
    const one = await at.jobs.begin();
    await at.jobs.begin();
    const watcher = new JobsWatcher(at.jobs);
    await watcher.until('complete');
    await at.jobs.refuse(one, { entry: 'refused', failure: { reason: 'NO_SPACE', text: '', metadata: {} } });
    await watcher.until('synced host1 1');
    await watcher.leave();
    const synced = watcher.seen.filter((text) => text.startsWith('synced'));
    expect(synced).toEqual(['synced host1 1 0', 'synced host1 1']);
  });

  it('shows the selected jobs that the caller may read, as the rights are now', async () => {
    await using at = await site();
    const labels = { team: 'a' };
    const one = await at.jobs.begin({ domain: 'web1', labels, createdBy: 'ops' });
    const two = await at.jobs.begin({ domain: 'db1', labels });
    const filters = [{ domain: 'web1' }, { labels }, { labels: { team: 'b' } }, { createdBy: 'ops' }];
    const seen = async (filter: object, rights?: () => Grant) => {
      const watcher = new JobsWatcher(at.jobs, filter, rights && { rights: [rights] });
      await watcher.until('complete');
      await watcher.leave();
      return watcher.seen.filter((text) => text.startsWith('SNAPSHOT')).toSorted();
    };
    expect(await Promise.all(filters.map(async (filter) => await seen(filter)))).toEqual([
      ['SNAPSHOT 0:1'],
      ['SNAPSHOT 0:1', 'SNAPSHOT 1:1'],
      [],
      ['SNAPSHOT 0:1'],
    ]);
    expect(await seen({}, () => ({ read: ['web*'], operate: [] }))).toEqual(['SNAPSHOT 0:1']);
    let read = ['*'];
    const watcher = new JobsWatcher(at.jobs, {}, { rights: [() => ({ read, operate: [] })] });
    await watcher.until('complete');
    read = ['db*'];
    await at.jobs.write(one, RUNNING);
    await at.jobs.write(two, RUNNING);
    await watcher.until('STATE 1:2');
    await watcher.leave();
    expect(watcher.seen).not.toContain('STATE 0:2');
  });

  it('begins with nothing of a domain that does not exist yet, and has its jobs as soon as there are some', async () => {
    await using at = await site();
    await at.jobs.begin({ domain: 'web1' });
    const watcher = new JobsWatcher(at.jobs, { domain: 'later1' });
    await watcher.until('complete');
    await at.jobs.begin({ domain: 'web1' });
    await at.jobs.begin({ domain: 'later1' });
    await watcher.until('STATE 2:1');
    await watcher.leave();
    expect(watcher.seen.filter((text) => /^(?:SNAPSHOT|STATE)/.test(text))).toEqual(['STATE 2:1']);
  });

  it('has the latest progress of a job alone, for a reader that was slow', async () => {
    await using at = await site();
    const log = await at.jobs.begin();
    await at.jobs.write(log, RUNNING);
    const end = new AbortController();
    const asked = { domain: '', positions: new Map(), progressIntervalMs: 100 };
    const messages = at.jobs.watchJobs(asked, { signal: end.signal })[Symbol.asyncIterator]();
    while ((await messages.next()).value?.is !== 'COMPLETE');
    for (const currentBytes of [1, 2, 3]) {
      at.jobs.progress.set(log.job.accepted.job, { ...PROGRESS, currentBytes });
      at.jobs.hostJobs.sampled(log.job.accepted.job);
    }
    const seen = [(await messages.next()).value];
    await at.jobs.write(log, READY);
    seen.push((await messages.next()).value);
    end.abort();
    expect(seen).toMatchObject([
      { event: { type: 'PROGRESS', progress: { currentBytes: 3 } } },
      { event: { type: 'STATE' } },
    ]);
  });

  it('loses nothing for a reader that is slower than all that is kept in memory', async () => {
    await using at = await site();
    const end = new AbortController();
    const asked = { domain: '', positions: new Map(), progressIntervalMs: undefined };
    const messages = at.jobs.watchJobs(asked, { signal: end.signal })[Symbol.asyncIterator]();
    const seen = new Map<string, number[]>();
    const next = async () => {
      const { value } = await messages.next();
      if (value?.is !== 'EVENT') return value?.is;
      const { accepted, revision } = value.event.job;
      seen.set(accepted.job, [...(seen.get(accepted.job) ?? []), revision]);
      return undefined;
    };
    while ((await next()) !== 'COMPLETE');
    const logs = await Promise.all(Array.from({ length: 5 }, async () => await at.jobs.begin()));
    const busy = Array.from({ length: 9 }, () => [{ entry: 'paused', reason: 'USER' }, { entry: 'resumed' }] as const);
    await Promise.all(
      logs.map(async (log) => await at.jobs.write(log, RUNNING, ...busy.flat(), CANCEL, ended('CANCELLED'))),
    );
    for (let count = 0; count < 5 * 22; count = [...seen.values()].flat().length) await next();
    end.abort();
    const whole = Array.from({ length: 22 }, (_, index) => index + 1);
    expect([...seen.values()]).toEqual(Array.from({ length: 5 }, () => whole));
  });

  it('sends a heartbeat after 15 seconds, with a later position', async () => {
    await using at = await site();
    const log = await at.jobs.begin();
    const watcher = new JobsWatcher(at.jobs, {});
    await watcher.until('complete');
    const { positions } = watcher;
    vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
    try {
      await at.jobs.write(log, RUNNING);
      await watcher.until('STATE 0:2');
      await vi.advanceTimersByTimeAsync(15_100);
      await watcher.until('heartbeat');
    } finally {
      vi.useRealTimers();
    }
    expect(watcher.positions.get('host1')?.at).toBeGreaterThan(positions.get('host1')?.at ?? 0);
    await watcher.leave();
  });
});
