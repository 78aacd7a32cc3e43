/** The meters themselves: the counters of a job, of a call, of a question to QEMU; and one look for all readers. */
import { describe, expect, it } from 'vitest';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import type { FleetFigures, HostFigures, JobFigures } from '../../../src/core/figures.ts';
import { fold, type Job } from '../../../src/core/job/job.ts';
import { bothObservers, type Doing } from '../../../src/lib/observer.ts';
import { CallMeters } from '../../../src/metrics/calls.ts';
import { addFleet, OwnershipMeters } from '../../../src/metrics/fleet.ts';
import { HostMeters } from '../../../src/metrics/host.ts';
import { Meters } from '../../../src/metrics/meters.ts';
import { ACCEPTED, journalOf, OUTCOME, pivot, READY, RUNNING } from '../core/stories.ts';

const IDLE: HostFigures = {
  jobs: [],
  copiedBytes: 0,
  links: { up: 0, down: 0 },
  reconnects: 0,
  watchers: 0,
  leastFreeBytes: undefined,
  strayFiles: 0,
  leftovers: [],
};

/** The samples whose name or labels match, without those that are zero. */
async function told(meters: Meters, what: string): Promise<readonly string[]> {
  const lines = (await meters.text()).split('\n');
  return lines.filter((line) => !line.startsWith('#') && line.includes(what) && !line.endsWith(' 0'));
}

function serving(rpc: string, isStream = false): Doing {
  return { does: 'serve', rpc, isStream, header: () => undefined };
}

const fails = (why: unknown) => async () => {
  await Promise.resolve();
  throw why;
};

describe('calls', () => {
  it('are counted by their final code, and by nothing that callers choose', async () => {
    const meters = new Meters();
    const calls = new CallMeters(meters, 'serve');
    expect(await calls.during(serving('GetInfo'), async () => await Promise.resolve(7))).toBe(7);
    const refusal = new BlockJobError(failure('JOB_NOT_FOUND', { job: 'bj0000000000000001' }));
    await expect(calls.during(serving('GetInfo'), fails(refusal))).rejects.toBe(refusal);
    await expect(calls.during(serving('GetInfo'), fails(new TypeError('x')))).rejects.toThrow('x');
    const left = new DOMException('', 'AbortError');
    await expect(calls.during(serving('WatchJob', true), fails(left))).rejects.toBe(left);
    expect(await told(meters, 'calls_total')).toEqual([
      'blockjob_grpc_calls_total{method="GetInfo",code="OK"} 1',
      'blockjob_grpc_calls_total{method="GetInfo",code="NOT_FOUND"} 1',
      'blockjob_grpc_calls_total{method="GetInfo",code="INTERNAL"} 1',
      'blockjob_grpc_calls_total{method="WatchJob",code="CANCELLED"} 1',
    ]);
    // The duration of a watch depends on its watcher.
    expect(await told(meters, 'seconds_count')).toEqual(['blockjob_grpc_call_seconds_count{method="GetInfo"} 3']);
  });
});

const hostWith = (figures: Partial<HostFigures> = {}) => {
  const meters = new Meters();
  return { meters, host: new HostMeters(meters, async () => await Promise.resolve({ ...IDLE, ...figures })) };
};

/** A second passes between two entries; the pivot is the fourth of five. */
function jobThatEnded(state: 'COMPLETED' | 'CANCELLED' | 'FAILED', destinationContent: 'COMPLETE' | 'UNKNOWN'): Job {
  const end = { entry: 'ended', state, failure: undefined, outcome: { ...OUTCOME, destinationContent } } as const;
  const [first, ...rest] = journalOf(ACCEPTED, RUNNING, READY, pivot(), end);
  return fold([first, ...rest.map((entry, at) => ({ ...entry, clock: { ms: 1000 * at, upMs: 0, counts: '' } }))]);
}

describe('a host', () => {
  it('counts a job that ended, and how long a pivot took from READY', async () => {
    const { meters, host } = hostWith();
    host.ended(jobThatEnded('COMPLETED', 'COMPLETE'));
    host.ended(jobThatEnded('CANCELLED', 'COMPLETE'));
    host.ended(jobThatEnded('FAILED', 'UNKNOWN'));
    expect(await told(meters, 'ended_total')).toEqual([
      'blockjob_jobs_ended_total{kind="COPY",state="COMPLETED",outcome="COMPLETE"} 1',
      'blockjob_jobs_ended_total{kind="COPY",state="CANCELLED",outcome="COMPLETE"} 1',
      'blockjob_jobs_ended_total{kind="COPY",state="FAILED",outcome="UNKNOWN"} 1',
    ]);
    expect(await told(meters, 'pivot_seconds_sum')).toEqual(['blockjob_ready_to_pivot_seconds_sum 2']);
  });

  it('shows the existing jobs: their states, pauses, progress, and the longest wait', async () => {
    const readyForMs = 3_600_000;
    const progress = { currentBytes: 30, endBytes: 40, convergence: 'SETTLED' } as const;
    const running = {
      kind: 'COPY',
      state: 'RUNNING',
      pauseReason: undefined,
      space: 'ENOUGH',
      readyForMs: undefined,
      waitsForRecord: false,
      slowsGuest: false,
      progress: undefined,
    } as const;
    const { meters } = hostWith({
      jobs: [
        { ...running, state: 'READY', readyForMs, progress },
        { ...running, state: 'READY', readyForMs: 60_000, waitsForRecord: true, slowsGuest: true },
        { ...running, pauseReason: 'NO_SPACE', space: 'FULL', progress },
        { ...running, kind: 'PULL', state: 'STARTING' },
      ],
      copiedBytes: 60,
      links: { up: 3, down: 1 },
      reconnects: 2,
      watchers: 4,
      leastFreeBytes: 7,
      strayFiles: 5,
      leftovers: ['FILE', 'FILE', 'NODE'],
    });
    const [seconds = '', ...more] = await told(meters, 'longest_ready');
    expect(more).toEqual([]);
    expect(Number(seconds.split(' ')[1])).toBeCloseTo(3600, -1);
    const rest = (await told(meters, 'blockjob_')).filter((line) => !line.includes('longest_ready'));
    expect(rest).toEqual([
      'blockjob_jobs{kind="COPY",state="RUNNING"} 1',
      'blockjob_jobs{kind="COPY",state="READY"} 2',
      'blockjob_jobs{kind="PULL",state="STARTING"} 1',
      'blockjob_jobs_paused{reason="NO_SPACE"} 1',
      'blockjob_jobs_space{level="ENOUGH"} 3',
      'blockjob_jobs_space{level="FULL"} 1',
      'blockjob_destination_free_bytes 7',
      'blockjob_jobs_convergence{convergence="SETTLED"} 1',
      'blockjob_jobs_current_bytes{kind="COPY"} 60',
      'blockjob_jobs_end_bytes{kind="COPY"} 80',
      'blockjob_longest_record_wait_seconds 60',
      'blockjob_guests_slowed_down 1',
      'blockjob_copied_bytes_total 60',
      'blockjob_qmp_links{state="up"} 3',
      'blockjob_qmp_links{state="down"} 1',
      'blockjob_qmp_reconnects_total 2',
      'blockjob_watchers 4',
      'blockjob_journal_stray_files 5',
      'blockjob_leftovers{kind="FILE"} 2',
      'blockjob_leftovers{kind="NODE"} 1',
    ]);
    // An object of one look may be gone at the next.
    expect((await told(meters, 'copied_bytes'))[0]).toBe('blockjob_copied_bytes_total 60');
  });

  it('shows each number', async () => {
    const unread = new Set<PropertyKey>();
    const watched = <T extends object>(figures: T): T => {
      for (const name of Object.keys(figures)) unread.add(name);
      return new Proxy(figures, {
        get: (all, name) => {
          unread.delete(name);
          return Reflect.get(all, name) as unknown;
        },
      });
    };
    const job = watched<JobFigures>({
      kind: 'COPY',
      state: 'READY',
      pauseReason: undefined,
      space: 'LOW',
      readyForMs: 0,
      waitsForRecord: true,
      slowsGuest: true,
      progress: watched<NonNullable<JobFigures['progress']>>({ currentBytes: 0, endBytes: 0, convergence: 'SETTLED' }),
    });
    const host = watched<HostFigures>({ ...IDLE, jobs: [job] });
    const fleet = watched<FleetFigures>({ reachable: 0, unreachable: 0, missing: 0, watchers: 0, upstreamWatches: 0 });
    const meters = new Meters();
    void new HostMeters(meters, async () => await Promise.resolve(host));
    await meters.text();
    const ofFleet = new Meters();
    addFleet(ofFleet, () => fleet);
    await ofFleet.text();
    expect([...unread]).toEqual([]);
  });

  it('measures commands and syncs, those that fail too, and does not change their results', async () => {
    const { meters, host } = hostWith();
    const other = new CallMeters(new Meters(), 'ask');
    const observer = bothObservers(other, host);
    const query = { does: 'qmp', command: 'query-jobs', domain: 'vm1' } as const;
    expect(await observer.during(query, async () => await Promise.resolve('answer'))).toBe('answer');
    const why = new Error('refused');
    await expect(observer.during(query, fails(why))).rejects.toBe(why);
    await observer.during({ does: 'sync' }, async () => await Promise.resolve());
    expect(await told(meters, '_count')).toEqual([
      'blockjob_qmp_command_seconds_count{command="query-jobs"} 2',
      'blockjob_journal_sync_seconds_count 1',
    ]);
    expect(await meters.text()).not.toContain('vm1');
  });
});

describe('an agent', () => {
  it('counts changes that were refused for ownership, and no other refusal', async () => {
    const meters = new Meters();
    const ownership = new OwnershipMeters(meters);
    const notOurs = new BlockJobError(failure('NOT_OWNER', { host: 'h', domain: 'd', owner: 'o' }));
    const notFound = new BlockJobError(failure('DOMAIN_NOT_FOUND', { domain: 'd' }));
    for (const error of [notOurs, notFound]) await expect(ownership.asking(fails(error)())).rejects.toBe(error);
    expect(await told(meters, 'refusals')).toEqual(['blockjob_ownership_refusals_total{reason="NOT_OWNER"} 1']);
  });
});

describe('all readers', () => {
  it('that come during a look get its answer: there is one look at a time', async () => {
    const meters = new Meters();
    let looks = 0;
    const gate = Promise.withResolvers<void>();
    meters.beforeEach(async () => {
      looks += 1;
      await gate.promise;
    });
    const asking = [meters.text(), meters.text(), meters.text()];
    gate.resolve();
    expect(new Set(await Promise.all(asking)).size).toBe(1);
    expect(looks).toBe(1);
    await meters.text();
    expect(looks).toBe(2);
  });
});
