/** One suite for all implementations of BlockJobs: the answers do not depend on the number of hops. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Started } from '../../src/core/block-jobs.ts';
import { BlockJobError } from '../../src/core/errors.ts';
import type { JobEvent } from '../../src/core/job/job-event.ts';
import type { JobView } from '../../src/core/job/job-view.ts';
import type { CommitRequest, CopyRequest, RebaseRequest, WatchRequest } from '../../src/core/requests.ts';
import { eventually, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { copyTo, PATIENT } from '../support/service/agent.ts';
import { type JobsWorld, WAYS, world } from '../support/service/block-jobs.ts';
import { JobsWatcher } from '../support/service/journal-jobs.ts';

const PAGE = { pageSize: 0, pageToken: '' };

const watching = (job: string, more: Partial<WatchRequest> = {}): WatchRequest => ({
  job: { jobId: job },
  afterRevision: undefined,
  progressIntervalMs: undefined,
  ...more,
});

function begun(started: Started): JobView {
  if ('etag' in started) throw new Error('a plan was not asked for');
  return started;
}

async function refusal(answer: Promise<unknown>): Promise<BlockJobError> {
  const error = await answer.then(
    () => new Error('not refused'),
    (why: unknown) => why,
  );
  if (error instanceof BlockJobError) return error;
  throw error;
}

describe.skipIf(needs('qemu')).each(WAYS)('%s', (way) => {
  let here: JobsWorld;
  beforeAll(async () => {
    here = await world(way);
  });
  afterAll(async () => await here?.[Symbol.asyncDispose]());

  const disk = () => ({ domain: here.qemu.name, disk: 'vd0' });
  const copy = (name: string, more: Partial<CopyRequest> = {}) =>
    copyTo(join(here.dir, name), { disk: disk(), ...more });
  const start = { requestId: '', validateOnly: false, planEtag: '', bandwidth: 0n, accept: [] };
  const rebase = (more: Partial<RebaseRequest>): RebaseRequest => ({
    disk: disk(),
    base: '',
    flags: [],
    overcommit: false,
    ...start,
    ...more,
  });
  const commit = (more: Partial<CommitRequest>): CommitRequest => ({
    disk: disk(),
    base: '',
    top: '',
    flags: [],
    ...start,
    ...more,
  });
  const abort = { returnImmediately: false, force: false, pauseGuest: undefined, requestId: '' };

  async function until(job: string, ...states: readonly JobView['job']['state'][]): Promise<JobView> {
    for await (const event of here.jobs.watch(watching(job), PATIENT)) {
      if (states.includes(event.job.state)) return event;
    }
    throw new Error(`${job} has ended otherwise`);
  }

  test('a copy is started, watched, and pivoted to', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('pivoted'), PATIENT));
    const id = job.accepted.job;
    expect(job.accepted).toMatchObject({ host: here.host, domain: here.qemu.name, disk: 'vd0', kind: 'COPY' });
    const ready = await until(id, 'READY');
    expect(ready.job.outcome).toMatchObject({ destinationContent: 'MIRRORED', guestWritesTo: here.top.path });
    const ended = await here.jobs.abort({ job: { jobId: id }, pivot: true, ...abort }, PATIENT);
    expect(ended.job).toMatchObject({
      state: 'COMPLETED',
      outcome: { guestWritesTo: join(here.dir, 'pivoted'), destinationContent: 'COMPLETE' },
    });
    expect((await here.jobs.getInfo({ jobId: id }, PATIENT)).job).toMatchObject({ state: 'COMPLETED' });

    // Moves it back for the next tests.
    const back = begun(await here.jobs.startCopy(copy('back', { onReady: 'PIVOT', format: 'QCOW2' }), PATIENT)).job
      .accepted.job;
    expect((await until(back, 'COMPLETED')).job.outcome.guestWritesTo).toBe(join(here.dir, 'back'));
  });

  test('a job whose configuration has an owner pivots by itself when its record is there', async () => {
    const request = copy('recorded', { onReady: 'PIVOT', format: 'QCOW2', configOwner: 'EXTERNAL' });
    const { job } = begun(await here.jobs.startCopy(request, PATIENT));
    const id = job.accepted.job;
    expect(job.accepted.options.configOwner).toBe('EXTERNAL');
    await until(id, 'READY');
    const pivot = { ...abort, job: { jobId: id }, pivot: true };
    const without = await here.jobs.abort(pivot, PATIENT).catch((error: unknown) => error);
    expect(without).toMatchObject({ reason: 'CONFIG_NOT_RECORDED', failure: { metadata: { job: id } } });
    const { pivotGate } = (await here.jobs.getInfo({ jobId: id }, PATIENT)).job;
    expect(pivotGate).toMatchObject({ nextStartPath: join(here.dir, 'recorded') });
    const { token } = present(pivotGate);
    const stale = { ...pivot, record: { token: `${token}0` } };
    await expect(here.jobs.abort(stale, PATIENT)).rejects.toMatchObject({ reason: 'CONFIG_RECORD_STALE' });
    await here.jobs.abort({ ...pivot, record: { token }, recordOnly: true }, PATIENT);
    const ended = await until(id, 'COMPLETED');
    expect(ended.job.outcome.guestWritesTo).toBe(join(here.dir, 'recorded'));
    expect(ended.job.pivotGate?.recordTime).toBeDefined();
  });

  test('a watch tells every revision once, in order, to each who comes, from where it wants', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('watched', { onReady: 'FINISH' }), PATIENT));
    const id = job.accepted.job;
    const revisionsOf = async (more: Partial<WatchRequest>) => {
      const seen: JobEvent[] = [];
      for await (const event of here.jobs.watch(watching(id, more), PATIENT)) seen.push(event);
      expect(seen.at(-1)?.job.state).toBe('COMPLETED');
      return seen.filter(({ type }) => type !== 'PROGRESS' && type !== 'HEARTBEAT');
    };
    const all = await Promise.all(
      [0, 3, undefined, 0].map(async (afterRevision) => await revisionsOf({ afterRevision })),
    );
    const [whole, later, live, again] = all.map((events) => events.map((event) => event.job.revision));
    const last = present(present(whole).at(-1));
    const upTo = (from: number) => Array.from({ length: last - from + 1 }, (_, index) => from + index);
    expect([whole, again]).toEqual([upTo(1), upTo(1)]);
    expect(later).toEqual(upTo(4));
    expect(all[2]?.[0]?.type).toBe('SNAPSHOT');
    expect(live).toEqual(upTo(present(live?.[0])));
    // A job that has ended is reported nevertheless.
    expect((await revisionsOf({ afterRevision: 0 })).map((event) => event.job.revision)).toEqual(upTo(1));
    expect((await refusal(revisionsOf({ afterRevision: last + 1 }))).reason).toBe('REVISION_UNKNOWN');
  });

  test('a watcher may leave, and the others continue', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('left', { bandwidthBytesPerSecond: 65_536n }), PATIENT));
    const id = job.accepted.job;
    const leaving = new AbortController();
    const often = { progressIntervalMs: 100 };
    const first = (async () => {
      for await (const event of here.jobs.watch(watching(id, often), { signal: leaving.signal })) {
        if (event.type === 'PROGRESS') leaving.abort();
      }
    })();
    const second = until(id, 'CANCELLED');
    await first;
    expect((await here.jobs.abort({ job: { jobId: id }, pivot: false, ...abort }, PATIENT)).job.state).toBe(
      'CANCELLED',
    );
    expect((await second).job.outcome.destinationRemoved).toBe(true);
  });

  test('each watch of a job gets progress at its own interval', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('seldom', { bandwidthBytesPerSecond: 65_536n }), PATIENT));
    const id = job.accepted.job;
    const leaving = new AbortController();
    const told = async (progressIntervalMs: number, enough = Infinity) => {
      let count = 0;
      for await (const { type } of here.jobs.watch(watching(id, { progressIntervalMs }), { signal: leaving.signal })) {
        if (type === 'PROGRESS') count += 1;
        if (count < enough) continue;
        leaving.abort();
        break;
      }
      return count;
    };
    expect(await Promise.all([told(3_600_000), told(100, 10)])).toEqual([1, 10]);
    await here.jobs.abort({ job: { jobId: id }, pivot: false, ...abort }, PATIENT);
  });

  test('speed, pause and resume are seen in the job', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('slow', { bandwidthBytesPerSecond: 65_536n }), PATIENT));
    const ref = { jobId: job.accepted.job };
    const one = { job: ref, requestId: '' };
    expect((await here.jobs.pause(one, PATIENT)).job.pauseReason).toBe('USER');
    expect((await here.jobs.resume(one, PATIENT)).job.pauseReason).toBeUndefined();
    const faster = await here.jobs.setSpeed({ ...one, bandwidthBytesPerSecond: 131_072n }, PATIENT);
    expect(faster.job.bandwidthBytesPerSecond).toBe(131_072);
    await here.jobs.abort({ job: ref, pivot: false, ...abort, force: true }, PATIENT);
  });

  test('a pull and a commit are jobs as well', async () => {
    await here.qemu.admin.execute('blockdev-snapshot-sync', {
      'node-name': present((await here.qemu.admin.block('vd0')).inserted)['node-name'],
      'snapshot-file': join(here.dir, 'overlay.qcow2'),
      'snapshot-node-name': 'overlay',
      format: 'qcow2',
    });
    const active = begun(await here.jobs.commit(commit({ flags: ['ACTIVE'] }), PATIENT)).job;
    expect(active.accepted.kind).toBe('ACTIVE_COMMIT');
    await until(active.accepted.job, 'READY');
    await here.jobs.abort({ job: { jobId: active.accepted.job }, pivot: false, ...abort }, PATIENT);
    const pull = begun(await here.jobs.rebase(rebase({}), PATIENT)).job.accepted.job;
    expect((await until(pull, 'COMPLETED')).job.accepted.kind).toBe('PULL');
  });

  test('a plan is only shown, and the same plan is carried out later', async () => {
    const planned = await here.jobs.startCopy(copy('planned', { validateOnly: true }), PATIENT);
    if (!('etag' in planned)) throw new Error('a plan was asked for');
    expect(planned.steps.find(({ name }) => name === 'start-mirror')?.run).toContain('blockdev-mirror');
    expect(planned.accepted).toMatchObject({ kind: 'COPY', destination: { target: { kind: 'file' } } });
    const { job } = begun(
      await here.jobs.startCopy(copy('planned', { planEtag: planned.etag, onReady: 'HOLD' }), PATIENT),
    );
    await here.jobs.abort({ job: { jobId: job.accepted.job }, pivot: false, ...abort }, PATIENT);
    const stale = await refusal(here.jobs.startCopy(copy('planned', { planEtag: 'other' }), PATIENT));
    expect(['PLAN_CHANGED', 'DESTINATION_EXISTS']).toContain(stale.reason);
  });

  test('one request_id is one job', async () => {
    const request = copy('once', { requestId: `once-${way.length}`, onReady: 'FINISH' });
    const [one, two] = await Promise.all([
      here.jobs.startCopy(request, PATIENT),
      here.jobs.startCopy(request, PATIENT),
    ]);
    expect(begun(one).job.accepted.job).toBe(begun(two).job.accepted.job);
    await until(begun(one).job.accepted.job, 'COMPLETED');
  });

  test('a refusal has the same reason and words, and changes nothing', async () => {
    const cases: readonly (readonly [() => Promise<unknown>, string])[] = [
      [
        async () => await here.jobs.startCopy(copy('never', { disk: { domain: 'nobody', disk: 'vd0' } }), PATIENT),
        'DOMAIN_NOT_FOUND',
      ],
      [
        async () => await here.jobs.startCopy(copy('never', { disk: { ...disk(), disk: 'vd9' } }), PATIENT),
        'DISK_NOT_FOUND',
      ],
      [
        async () =>
          await here.jobs.startCopy({ ...copy('never'), destination: { kind: 'file', path: 'relative' } }, PATIENT),
        'PATH_NOT_ABSOLUTE',
      ],
      [
        async () =>
          await here.jobs.startCopy({ ...copy('never'), destination: { kind: 'file', path: '/etc/never' } }, PATIENT),
        'DESTINATION_NOT_ALLOWED',
      ],
      [
        async () => await here.jobs.startCopy(copy('never', { onReady: { unrecognized: 99 } }), PATIENT),
        'FIELD_INVALID',
      ],
      [async () => await here.jobs.getInfo({ jobId: 'bj0000000000000000' }, PATIENT), 'JOB_NOT_FOUND'],
      [
        async () => await here.jobs.abort({ job: { jobId: 'bj0000000000000000' }, pivot: false, ...abort }, PATIENT),
        'JOB_NOT_FOUND',
      ],
      [async () => await here.jobs.getDomain('nobody', PATIENT), 'DOMAIN_NOT_FOUND'],
      [async () => await here.jobs.listJobs({ domain: 'nobody', states: [], ...PAGE }, PATIENT), 'DOMAIN_NOT_FOUND'],
      [
        async () => await here.jobs.listJobs({ domain: '', states: [], pageSize: 0, pageToken: 'x' }, PATIENT),
        'FIELD_INVALID',
      ],
    ];
    for (const [ask, reason] of cases) expect((await refusal(ask())).reason).toBe(reason);
    expect(existsSync(join(here.dir, 'never'))).toBe(false);
  });

  test('an operation that the running copy forbids is refused, and allowed after the copy', async () => {
    const { job } = begun(await here.jobs.startCopy(copy('forbids'), PATIENT));
    const request = { domain: here.qemu.name, disk: undefined, operation: 'SNAPSHOT' } as const;
    const { reasons, blocking } = await here.jobs.checkOperation(request, PATIENT);
    expect(reasons.map(({ reason }) => reason)).toEqual(['BLOCK_COPY_ACTIVE']);
    expect(blocking.map((view) => view.job.accepted.job)).toEqual([job.accepted.job]);
    await here.jobs.abort({ job: { jobId: job.accepted.job }, pivot: false, ...abort, force: true }, PATIENT);
    expect(await here.jobs.checkOperation(request, PATIENT)).toEqual({ reasons: [], blocking: [] });
  });

  test('all jobs are watched: those with the requested labels, each revision once, with a token to continue', async () => {
    const labels = { 'example.org/for': 'watchers' };
    const watcher = new JobsWatcher(here.jobs, { labels });
    await watcher.until('complete');
    const { job } = begun(await here.jobs.startCopy(copy('watched-by-label', { labels }), PATIENT));
    const id = job.accepted.job;
    await here.jobs.abort({ job: { jobId: id }, pivot: false, ...abort, force: true }, PATIENT);
    const last = (await until(id, 'CANCELLED')).job;
    const name = id.replace(/^bj/, '');
    await watcher.until(`STATE ${name}:${last.revision}`);
    await watcher.leave();
    const revisions = watcher.seen
      .filter((text) => text.includes(`${name}:`))
      .map((text) => Number(text.split(':')[1]));
    expect(revisions).toEqual(Array.from({ length: last.revision }, (_, index) => index + 1));
    expect(last.accepted.labels).toEqual(labels);

    const { positions } = watcher;
    const again = new JobsWatcher(here.jobs, { labels, positions });
    await again.until('complete');
    await again.leave();
    expect(again.seen.filter((text) => !text.startsWith('synced'))).toEqual(['complete']);
    const shownOf = async (more: object) => {
      const anew = new JobsWatcher(here.jobs, { labels, ...more });
      await anew.until('complete');
      await anew.leave();
      return anew.seen.filter((text) => text.startsWith('SNAPSHOT'));
    };
    expect(await shownOf({})).toEqual([`SNAPSHOT ${name}:${last.revision}`]);
    expect(await shownOf({ activeOnly: true })).toEqual([]);
    const listed = await here.jobs.listJobs({ domain: '', states: [], labels, ...PAGE }, PATIENT);
    expect(listed.items.map((one) => one.job.accepted.job)).toEqual([id]);
    const other = { ...labels, more: '' };
    expect((await here.jobs.listJobs({ domain: '', states: [], labels: other, ...PAGE }, PATIENT)).items).toEqual([]);
  });

  test('jobs of other clients are listed, of each host, in the order of hosts', async () => {
    for (const [host, { admin }] of here.qemus) {
      const options = { driver: 'file', filename: join(here.dir, `foreign-${host}`), size: 0 };
      await writeFile(options.filename, '');
      await admin.execute('blockdev-create', { 'job-id': `of-${host}`, options });
    }
    const asked = { domain: '', states: [], ...PAGE };
    const listed = async () => (await here.jobs.listJobs(asked, PATIENT)).foreignJobs;
    const hosts = [...here.qemus.keys()];
    const all = await eventually('all have concluded', async () => {
      const found = await listed();
      return found.length === hosts.length && found.every(({ status }) => status === 'concluded') ? found : undefined;
    });
    expect(all).toMatchObject(
      hosts.map((host) => ({ id: `of-${host}`, host, domain: `vm-of-${host}`, type: 'create', isOfLibvirt: false })),
    );
    const ofOne = await here.jobs.listJobs({ ...asked, domain: here.qemu.name }, PATIENT);
    expect(ofOne.foreignJobs.map(({ id }) => id)).toEqual([`of-${here.host}`]);
    for (const [host, { admin }] of here.qemus) await admin.execute('job-dismiss', { id: `of-${host}` });
    expect(await listed()).toEqual([]);
  });

  test('domains, their disks, jobs and leftovers are listed', async () => {
    const domains = await here.jobs.listDomains({ host: '', ...PAGE }, PATIENT);
    expect(domains.unreachableHosts).toEqual([]);
    expect(domains.items.map(({ name }) => name)).toContain(here.qemu.name);
    const only = await here.jobs.listDomains({ host: here.host, ...PAGE }, PATIENT);
    expect(only.items.map(({ name }) => name)).toEqual([here.qemu.name]);
    const { domain, disks } = await here.jobs.getDomain(here.qemu.name, PATIENT);
    expect(domain).toMatchObject({ name: here.qemu.name, host: here.host, connection: { up: true } });
    expect(disks.map(({ disk: one }) => one.id)).toEqual(['vd0']);
    expect(present(disks[0]).disk.chain[0]).toMatchObject({ format: 'qcow2', virtualSizeBytes: 2 << 20 });

    const listed: string[] = [];
    let pageToken = '';
    do {
      const page = await here.jobs.listJobs({ domain: '', states: [], pageSize: 2, pageToken }, PATIENT);
      listed.push(...page.items.map(({ job }) => job.createTime));
      ({ nextPageToken: pageToken } = page);
    } while (pageToken !== '');
    expect(listed.length).toBeGreaterThan(5);
    expect(listed).toEqual(listed.toSorted().toReversed());
    const completed = await here.jobs.listJobs({ domain: here.qemu.name, states: ['COMPLETED'], ...PAGE }, PATIENT);
    expect(new Set(completed.items.map(({ job }) => job.state))).toEqual(new Set(['COMPLETED']));
    expect((await here.jobs.listLeftovers({ domain: '', ...PAGE }, PATIENT)).unreachableHosts).toEqual([]);
  });

  test('leftovers are listed, and removed on request', async () => {
    // After a forced abort while READY, the copy is stale: it cannot be used, but it still exists.
    const { job } = begun(await here.jobs.startCopy(copy('stale'), PATIENT));
    await until(job.accepted.job, 'READY');
    await here.jobs.abort({ job: { jobId: job.accepted.job }, pivot: false, ...abort, force: true }, PATIENT);
    const list = async () => {
      const { items } = await here.jobs.listLeftovers({ domain: here.qemu.name, ...PAGE }, PATIENT);
      return items.filter(({ name }) => name === join(here.dir, 'stale'));
    };
    const ids = (await list()).map(({ id }) => id);
    expect(ids).toHaveLength(1);
    for (const apply of [false, true]) {
      const results = await here.jobs.reclaim({ ids, apply, requestId: '' }, PATIENT);
      expect(results.map(({ id, leftover, failure }) => [id, leftover?.id, failure])).toEqual([
        [ids[0], ids[0], undefined],
      ]);
      expect(await list()).toHaveLength(apply ? 0 : 1);
    }
    expect(await here.jobs.reclaim({ ids, apply: true, requestId: '' }, PATIENT)).toEqual([
      { id: ids[0], leftover: undefined, failure: undefined },
    ]);
    expect((await refusal(here.jobs.reclaim({ ids: [], apply: false, requestId: '' }, PATIENT))).reason).toBe(
      'FIELD_INVALID',
    );
  });
});
