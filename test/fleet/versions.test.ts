/** A fleet of two versions: gateways and agents of this one and of the one before it, with a real QEMU each. */
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WatchJobsRequest, type WatchJobsResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { DestinationContent, type Job, Job_State, JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';
import { VERSION } from '../../src/lib/version.ts';
import { eventually, graphOf } from '../support/checks.ts';
import { type FleetHost, FleetSite } from '../support/fleet/fleet-site.ts';
import { type Previous, previousIn } from '../support/fleet/previous.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { byId, errorOf, refused } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';

type About = NonNullable<WatchJobsResponse['about']>;
type Told = { readonly [Case in About['$case']]?: Extract<About, { $case: Case }>['value'] };

/** The messages of a watch of all jobs. */
class JobsWatch implements Disposable {
  readonly #told: Told[] = [];
  readonly #stream;
  #failed: Error | undefined;

  constructor({ blockJobs }: Service) {
    this.#stream = blockJobs.watchJobs(WatchJobsRequest.fromPartial({}));
    this.#stream.on('data', ({ about }: WatchJobsResponse) => {
      if (about !== undefined) this.#told.push({ [about.$case]: about.value });
    });
    this.#stream.on('error', (error: Error) => {
      this.#failed = error;
    });
  }

  /** Waits for a message in which `find` finds something, and returns that. */
  async until<T>(what: string, find: (told: Told) => T | undefined): Promise<T> {
    return await eventually(
      what,
      () => {
        if (this.#failed !== undefined) throw this.#failed;
        for (const told of this.#told) {
          const found = find(told);
          if (found !== undefined) return found;
        }
        return undefined;
      },
      40_000,
    );
  }

  async untilJob(id: string, state: Job_State): Promise<void> {
    await this.until(`job ${id} in state ${state}`, ({ event }) =>
      event?.job?.id === id && event.job.state === state ? true : undefined,
    );
  }

  async untilSynced(name: string): Promise<void> {
    await this.until(`${name} is synced`, ({ synced }) => (synced?.host === name ? true : undefined));
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
  }
}

/** The kinds of events that have no revision of their own. */
const LIVE: ReadonlySet<JobEvent_Kind> = new Set([JobEvent_Kind.KIND_PROGRESS, JobEvent_Kind.KIND_HEARTBEAT]);

describe.skipIf(needs('qemu', 'etcd'))('a fleet of two versions', { timeout: 120_000 }, () => {
  let site: FleetSite;
  let previous: Previous;
  let [older, newer]: [FleetHost, FleetHost] = [] as never;
  let [gateway, olderGateway]: [Service, Service] = [] as never;
  let copies = 0;

  beforeAll(async () => {
    site = await FleetSite.open();
    previous = await previousIn(join(site.dir, 'previous'));
    const policy = await site.policy({ 'spiffe://site/ops': { operate: ['*'] } });
    [older, newer] = await Promise.all([site.host('older', previous), site.host('newer')]);
    [gateway, olderGateway] = await Promise.all([site.gateway('g1', policy), site.gateway('g2', policy, previous)]);
    for (const one of [gateway, olderGateway]) for (const { domain } of [older, newer]) await one.domainUp(domain);
  }, 120_000);
  afterAll(async () => await site?.[Symbol.asyncDispose]());

  const copyOf = ({ domain }: FleetHost) => {
    const path = join(site.dir, `copy-${(copies += 1)}`);
    const target = { $case: 'file', value: path } as const;
    return { path, request: { disk: { domain, disk: 'vd0' }, destination: { target } } };
  };
  const lacking = (feature: string) => ({
    reason: 'VERSIONS_DIFFER',
    metadata: { host: 'older', agentVersion: previous.version, gatewayVersion: VERSION, feature },
    message: expect.stringContaining('upgrade the agent') as string,
  });

  test('they are two', async () => {
    expect(previous.version).not.toBe(VERSION);
    expect(await older.agent.serverInfo()).toMatchObject({ version: previous.version });
    expect(await newer.agent.serverInfo()).toMatchObject({ version: VERSION });
  });

  /** A job is begun through the newer gateway; `through` does the rest. */
  async function copyAndPivot(host: FleetHost, through: Service): Promise<Job> {
    const { path, request } = copyOf(host);
    const { id } = await gateway.startCopy({ ...request, bandwidthBytesPerSecond: 65_536n });
    // An older gateway has no number for what is not known before two samples.
    await eventually('two samples', async () => (await gateway.getInfo(id)).progress?.convergence || undefined);
    const revisions: number[] = [];
    const watching = (async () => {
      for await (const { kind, revision } of through.watch(id, 0))
        if (!LIVE.has(kind)) revisions.push(Number(revision));
    })();
    await through.until(id, 'STATE_RUNNING');
    await through.pause(id);
    await eventually('it is paused', async () => (await through.getInfo(id)).pauseReason || undefined);
    await through.resume(id);
    await through.setSpeed(id, 0n);
    await through.until(id, 'STATE_READY');
    const ended = await through.abort({ job: byId(id), pivot: true });
    expect(ended).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: path, destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE },
    });
    expect(JSON.stringify(await graphOf(host.qemu.admin))).toContain(path);
    await within(20_000, 'the end of the watch', watching);
    expect(revisions).toEqual(Array.from({ length: Number(ended.revision) }, (_, at) => at + 1));
    return ended;
  }

  test('an older agent does for a gateway what both know: it copies, tells each revision once, and pivots', async () => {
    await copyAndPivot(older, gateway);
    const second = await gateway.startCopy({ ...copyOf(older).request, bandwidthBytesPerSecond: 65_536n });
    expect(await refused(gateway.startCopy(copyOf(older).request))).toMatchObject({ reason: 'BLOCK_COPY_ACTIVE' });
    const check = { domain: older.domain, operation: Operation.OPERATION_MIGRATE };
    expect(await refused(gateway.checkOperation(check))).toMatchObject({ reason: 'BLOCK_COPY_ACTIVE' });
    await gateway.abort({ job: byId(second.id), force: true });
  });

  test('an older gateway changes, watches and ends jobs of an agent', async () => {
    expect(await copyAndPivot(newer, olderGateway)).toMatchObject({ host: 'newer' });
  });

  test('an older gateway misreads what else an agent says: it gets no start, and no consent to a migration', async () => {
    const before = await newer.agent.listJobs();
    const { path, request } = copyOf(newer);
    const check = { domain: newer.domain, operation: Operation.OPERATION_MIGRATE };
    const calls = [olderGateway.startCopy(request), olderGateway.checkOperation(check)];
    for (const why of await Promise.all(calls.map(refused))) {
      expect(why).toMatchObject({ reason: 'REASON_UNKNOWN', metadata: { otherReason: 'VERSIONS_DIFFER' } });
      expect(why.message).toContain(`the agent of host newer has version ${VERSION}, and the gateway has unknown`);
      expect(why.message).toContain('upgrade the gateway');
    }
    expect(await newer.agent.listJobs()).toEqual(before);
    expect(JSON.stringify(await graphOf(newer.qemu.admin))).not.toContain(path);
  });

  test('a list has each job once, page by page, through both gateways', async () => {
    for (const through of [gateway, olderGateway]) {
      const { jobs } = await through.listJobs();
      expect(new Set(jobs.map(({ host }) => host))).toEqual(new Set(['older', 'newer']));
      const paged: string[] = [];
      for (let pageToken = ''; ; ) {
        const page = await through.listJobs({ pageSize: 1, pageToken });
        paged.push(...page.jobs.map(({ id }) => id));
        if (page.nextPageToken === '' || paged.length > jobs.length) break;
        ({ nextPageToken: pageToken } = page);
      }
      expect(paged).toEqual(jobs.map(({ id }) => id));
    }
  });

  test('a start with labels is refused where they would be lost, and nothing is started', async () => {
    const plain = await gateway.startCopy(copyOf(older).request);
    await gateway.abort({ job: byId(plain.id), force: true });
    const before = await older.agent.listJobs();
    expect(before.jobs[0]).toMatchObject({ id: plain.id, labels: {} });
    const { path, request } = copyOf(older);
    const why = await refused(gateway.startCopy({ ...request, labels: { team: 'blue' } }));
    expect(why).toMatchObject({ ...lacking('labels'), code: status.UNIMPLEMENTED });
    expect(await older.agent.listJobs()).toEqual(before);
    expect(JSON.stringify(await graphOf(older.qemu.admin))).not.toContain(path);
    const { id } = await gateway.startCopy({ ...copyOf(newer).request, labels: { team: 'blue' } });
    const { jobs, unreachableHosts } = await gateway.listJobs({ labelFilter: { team: 'blue' } });
    expect([jobs.map((job) => job.id), unreachableHosts]).toEqual([[id], []]);
    await gateway.abort({ job: byId(id), force: true });
  });

  test('a watch of all jobs has those of the newer host, names the older one, and has its jobs when it is upgraded', async () => {
    const { id: running } = await gateway.startCopy({ ...copyOf(older).request, bandwidthBytesPerSecond: 65_536n });
    using watch = new JobsWatch(gateway);
    await watch.until('complete', ({ complete }) => complete);
    const { host, error } = await watch.until('a host that is not there', ({ unreachable }) => unreachable);
    expect(host).toBe('older');
    expect(errorOf({ error })).toMatchObject({ ...lacking('WatchJobs'), code: status.UNIMPLEMENTED });
    await watch.untilSynced('newer');
    const { id } = await gateway.startCopy(copyOf(newer).request);
    await watch.untilJob(id, Job_State.STATE_READY);
    await gateway.abort({ job: byId(id) });

    await older.agent.stop();
    await site.restartAgent(older);
    await watch.untilSynced('older');
    await eventually('the agent answers', async () => await gateway.setSpeed(running, 0n).catch(() => undefined));
    await watch.untilJob(running, Job_State.STATE_READY);
    const ended = await gateway.abort({ job: byId(running), pivot: true });
    expect(ended).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE },
    });
  });
});
