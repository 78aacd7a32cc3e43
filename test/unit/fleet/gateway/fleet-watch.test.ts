/** A watch of all jobs of a fleet: hosts that come, go, and come back, and the number of questions to their agents. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlockJobs, Call, Requests } from '../../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import type { Host } from '../../../../src/fleet/directory/directory.ts';
import { Roster } from '../../../../src/fleet/directory/roster.ts';
import type { Agent } from '../../../../src/fleet/gateway/agents.ts';
import { FleetWatches } from '../../../../src/fleet/gateway/fleet-watch.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { JobsWatcher, JournalJobs } from '../../../support/service/journal-jobs.ts';
import { until } from '../../../support/until.ts';
import { CANCEL, ended, READY, RUNNING } from '../../core/stories.ts';

/** An agent, and the connection to it. */
class Site {
  readonly jobs: JournalJobs;
  readonly host: string;
  open = 0;
  asked = 0;
  #cut = new AbortController();
  #isUp = true;
  readonly #left = new Wake();

  constructor(host: string, jobs: JournalJobs) {
    this.host = host;
    this.jobs = jobs;
  }

  /** Resolves when it has no watchers any more. */
  async untilLeft(): Promise<void> {
    await until('the end of the streams', this.#left, () => this.open === 0);
  }

  down(): void {
    this.#isUp = false;
    this.#cut.abort();
  }

  up(): void {
    this.#isUp = true;
    this.#cut = new AbortController();
  }

  async *watchJobs(request: Requests['watchJobs'], call: Call): ReturnType<FleetWatches['watch']> {
    const cut = this.#cut.signal;
    const gone = () => new BlockJobError(failure('HOST_UNREACHABLE', { host: this.host, why: 'a test' }));
    if (!this.#isUp) throw gone();
    this.asked += 1;
    this.open += 1;
    try {
      yield* this.jobs.watchJobs(request, { ...call, signal: AbortSignal.any([call.signal, cut]) });
    } finally {
      this.open -= 1;
      this.#left.notify();
    }
    if (cut.aborted) throw gone();
  }
}

const END = [RUNNING, READY, CANCEL, ended('CANCELLED')] as const;

const hostOf = (name: string): Host => ({ name, address: name, identity: '', version: '1', instance: '' });
const ofJob = ({ seen }: JobsWatcher, job: string) =>
  seen.filter((text) => text.endsWith(` ${job}`) || text.includes(` ${job}:`));

describe('a watch of all jobs of a fleet', () => {
  let opened: AsyncDisposableStack;
  let dir: string;
  let sites: Map<string, Site>;
  let roster: Roster;
  let changes: Wake;
  let fleet: FleetWatches;

  beforeEach(async () => {
    opened = new AsyncDisposableStack();
    dir = opened.use(await testDir()).path;
    sites = new Map();
    changes = new Wake();
    roster = new Roster();
    const directory = {
      changes,
      hosts: () => roster.hosts(),
      host: (name: string) => roster.host(name),
      missing: () => roster.missing(),
    };
    fleet = new FleetWatches(directory, { of: ({ name }) => sites.get(name) as unknown as Agent });
  });
  afterEach(async () => {
    await opened.disposeAsync();
  });

  const host = async (name: string): Promise<Site> => {
    const site = new Site(name, opened.use(await JournalJobs.open(join(dir, name), name)));
    sites.set(name, site);
    roster.setHost(name, hostOf(name));
    changes.notify();
    return site;
  };
  const watchJobs: BlockJobs['watchJobs'] = (asked, call) => fleet.watch(asked, call);
  const watch = (request: object = {}) => new JobsWatcher({ watchJobs }, request);

  it('has those of each host, says when it is complete, and includes a host that comes', async () => {
    const [h1, h2] = [await host('h1'), await host('h2')];
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    const two = await h2.jobs.begin({ job: 'bj0000000000000002' });
    const watcher = watch();
    await watcher.until('complete');
    expect(watcher.seen.toSorted()).toEqual(
      [
        'SNAPSHOT 1:1',
        'SNAPSHOT 2:1',
        'complete',
        'snapshot of h1',
        'snapshot of h2',
        'synced h1 1',
        'synced h2 2',
      ].toSorted(),
    );
    const h3 = await host('h3');
    await watcher.until('synced h3');
    const three = await h3.jobs.begin({ job: 'bj0000000000000003' });
    await Promise.all([h1.jobs.write(one, ...END), h2.jobs.write(two, ...END), h3.jobs.write(three, ...END)]);
    await watcher.until(/^STATE .:5$/, 3);
    await watcher.leave();
    expect(ofJob(watcher, '2').filter((text) => text.startsWith('STATE'))).toEqual(
      [2, 3, 4, 5].map((revision) => `STATE 2:${revision}`),
    );
    expect(ofJob(watcher, '3')).toEqual([1, 2, 3, 4, 5].map((revision) => `STATE 3:${revision}`));
    for (const site of [h1, h2, h3]) await site.untilLeft();
  });

  it('looks at the list of hosts when it changes, and not at each event', async () => {
    const h1 = await host('h1');
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    let looks = 0;
    const counted = Object.defineProperty({ ...hostOf('h2') }, 'name', {
      get: () => {
        looks += 1;
        return 'h2';
      },
    });
    await host('h2');
    roster.setHost('h2', counted);
    const watcher = watch();
    await watcher.until('complete');
    const before = looks;
    expect(before).toBeGreaterThan(0);
    await h1.jobs.write(one, ...END);
    await watcher.until('STATE 1:5');
    expect(looks).toBe(before);
    await host('h3');
    await watcher.until('synced h3');
    expect(looks).toBeGreaterThan(before);
    await watcher.leave();
  });

  it('names a host that does not answer, and again when it is back, with the missed events, each once', async () => {
    const [h1, h2] = [await host('h1'), await host('h2')];
    const watcher = watch();
    await watcher.until('complete');
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    await watcher.until('STATE 1:1');
    h1.down();
    await watcher.until('unreachable h1: HOST_UNREACHABLE');
    await h1.jobs.write(one, RUNNING);
    const two = await h2.jobs.begin({ job: 'bj0000000000000002' });
    await watcher.until('STATE 2:1');
    h1.up();
    await watcher.until(/^synced h1/, 2);
    await h1.jobs.write(one, READY, CANCEL, ended('CANCELLED'));
    await h2.jobs.write(two, ...END);
    await watcher.until(/^STATE .:5$/, 2);
    await watcher.leave();
    expect(ofJob(watcher, '1').filter((text) => text.startsWith('STATE'))).toEqual(
      [1, 2, 3, 4, 5].map((revision) => `STATE 1:${revision}`),
    );
    expect(watcher.seen.filter((text) => text.startsWith('unreachable'))).toHaveLength(1);
  });

  it('is complete also with a host that does not answer, and continues after its position on each', async () => {
    const [h1, h2] = [await host('h1'), await host('h2')];
    h2.down();
    const watcher = watch();
    await watcher.until('complete');
    expect(watcher.seen).toContain('unreachable h2: HOST_UNREACHABLE');
    await watcher.leave();
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    await h2.jobs.begin({ job: 'bj0000000000000002' });
    await h1.jobs.write(one, RUNNING);
    h2.up();
    const { positions } = watcher;
    const again = watch({ positions });
    await again.until('complete');
    await again.leave();
    expect(again.seen.filter((text) => text.includes('h1') || text.includes('1:'))).toEqual([
      'STATE 1:1',
      'STATE 1:2',
      'synced h1',
    ]);
    expect(ofJob(again, '2')).toEqual(['SNAPSHOT 2:1', 'synced h2 2']);
  });

  it('leaves ended jobs out of the snapshot with activeOnly, and sends the later ends', async () => {
    const h1 = await host('h1');
    await h1.jobs.write(await h1.jobs.begin({ job: 'bj0000000000000001' }), ...END);
    const two = await h1.jobs.begin({ job: 'bj0000000000000002' });
    const watcher = watch({ activeOnly: true });
    await watcher.until('complete');
    await h1.jobs.write(two, ...END);
    await watcher.until('STATE 2:5');
    await watcher.leave();
    expect(ofJob(watcher, '1')).toEqual([]);
    expect(ofJob(watcher, '2')).toEqual(['SNAPSHOT 2:1', 'synced h1 2', ...[2, 3, 4, 5].map((at) => `STATE 2:${at}`)]);
  });

  it('asks each agent once, however many watch', async () => {
    const h1 = await host('h1');
    const watchers = Array.from({ length: 20 }, () => watch());
    await Promise.all(watchers.map(async (one) => await one.until('complete')));
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    await Promise.all(watchers.map(async (watcher) => await watcher.until('STATE 1:1')));
    expect(h1.open).toBe(1);
    expect(fleet.watchers).toBe(20);
    await h1.jobs.write(one, ...END);
    await Promise.all(watchers.map(async (watcher) => await watcher.until('STATE 1:5')));
    const seen = new Set(watchers.map((watcher) => ofJob(watcher, '1').join()));
    expect([...seen]).toEqual(['STATE 1:1,STATE 1:2,STATE 1:3,STATE 1:4,STATE 1:5']);
    await Promise.all(watchers.map(async (watcher) => await watcher.leave()));
    await h1.untilLeft();
    expect(fleet.watchers).toBe(0);
  });

  it('hears about a start that failed', async () => {
    const h1 = await host('h1');
    const watcher = watch();
    await watcher.until('complete');
    const one = await h1.jobs.begin({ job: 'bj0000000000000001' });
    await watcher.until('STATE 1:1');
    await h1.jobs.refuse(one, { entry: 'refused', failure: failure('NO_SPACE', { path: '/x', why: 'full' }) });
    await watcher.until('synced h1', 2);
    await watcher.leave();
    expect(watcher.seen.at(-1)).toBe('synced h1');
  });
});
