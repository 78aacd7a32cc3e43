/** All jobs, for a caller that may read some: those alone, and a new snapshot when the policy changes. */
import { describe, expect, it } from 'vitest';
import { Guarded } from '../../../src/access/guarded.ts';
import { Policy } from '../../../src/access/policy.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { JobsWatcher, JournalJobs } from '../../support/service/journal-jobs.ts';
import { RUNNING } from '../core/stories.ts';

function policyOf(...read: readonly string[]): Policy {
  const policy = Policy.read(JSON.stringify({ callers: { me: { read } } }));
  if (typeof policy === 'string') throw new Error(policy);
  return policy;
}

async function site() {
  await using opened = new AsyncDisposableStack();
  const { path } = opened.use(await testDir());
  const jobs = opened.use(await JournalJobs.open(path, 'host1'));
  const changed = new Set<() => void>();
  const live = {
    now: policyOf('web*'),
    onChange: (listener: () => void) => {
      changed.add(listener);
      return { [Symbol.dispose]: () => void changed.delete(listener) };
    },
  };
  const change = (...read: readonly string[]) => {
    live.now = policyOf(...read);
    for (const tell of changed) tell();
  };
  const guarded = new Guarded(jobs as unknown as BlockJobs, live);
  const held = opened.move();
  return { jobs, guarded, change, changed, [Symbol.asyncDispose]: async () => await held.disposeAsync() };
}

describe('a watch of all jobs under a policy', () => {
  it('starts again when its caller may read other jobs, and has none of the others', async () => {
    await using at = await site();
    const web = await at.jobs.begin({ domain: 'web1' });
    const db = await at.jobs.begin({ domain: 'db1' });
    const watcher = new JobsWatcher(at.guarded, {}, { caller: 'me' });
    await watcher.until('complete');
    at.change('web*');
    await at.jobs.write(db, RUNNING);
    await at.jobs.write(web, RUNNING);
    await watcher.until('STATE 0:2');
    at.change('db*');
    await watcher.until('complete', 2);
    await watcher.leave();
    expect(watcher.seen).toEqual([
      'snapshot of host1',
      'SNAPSHOT 0:1',
      'synced host1 0',
      'complete',
      'STATE 0:2',
      'snapshot of host1, compacted',
      'SNAPSHOT 1:2',
      'synced host1',
      'complete',
    ]);
    expect(at.changed.size).toBe(0);
  });

  it('continues after its position with the same rights, and starts again with others', async () => {
    await using at = await site();
    await at.jobs.begin({ domain: 'web1' });
    const watcher = new JobsWatcher(at.guarded, {}, { caller: 'me' });
    await watcher.until('complete');
    await watcher.leave();
    const { positions } = watcher;
    const seen = async () => {
      const again = new JobsWatcher(at.guarded, { positions }, { caller: 'me' });
      await again.until('complete');
      await again.leave();
      return again.seen.join(', ');
    };
    expect(await seen()).toBe('synced host1 0, complete');
    at.change('*');
    expect(await seen()).toBe('snapshot of host1, compacted, SNAPSHOT 0:1, synced host1 0, complete');
  });

  it('is refused to a caller without a name', async () => {
    await using at = await site();
    const asked = { domain: '', positions: new Map(), progressIntervalMs: undefined };
    expect(() => at.guarded.watchJobs(asked, { signal: new AbortController().signal })).toThrow('CALLER_UNKNOWN');
  });
});
