/** A fleet of real processes on one machine: etcd, two hosts, two gateways, TLS everywhere. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { credentials, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  DestinationContent,
  Job_State,
  type JobEvent,
  JobEvent_Kind,
  OnReady,
} from '../../generated/blockjob/v1/job.ts';
import { ServerMode } from '../../generated/blockjob/v1/server_service.ts';
import { eventually, graphOf, present } from '../support/checks.ts';
import { type FleetHost, FleetSite, TTL_SECONDS } from '../support/fleet/fleet-site.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import { byId, Caller, refusalOf, refused } from '../support/service/caller.ts';
import { Authority } from '../support/service/certificates.ts';
import type { Service } from '../support/service/service.ts';

/** The errors of a host whose guest is leaving it: by itself, or when the directory says so. */
const GONE_FROM_HERE = ['GUEST_MIGRATING', 'NOT_OWNER', 'OWNERSHIP_STALE', 'OWNER_UNKNOWN'];

/** The times when an entry of etcd was made and changed, as etcdctl prints them. */
function revisionsIn(fields: string): readonly string[] {
  return fields.match(/"(?:CreateRevision|ModRevision)" : \d+/g) ?? [];
}

/** Revisions only, once and in order from `from`; `leave` ends it. */
async function follow(
  caller: Caller,
  job: string,
  seen: JobEvent[],
  leave: (event: JobEvent) => boolean,
): Promise<void> {
  const last = seen.at(-1)?.revision ?? 0n;
  for await (const event of caller.watch(job, Number(last))) {
    if (event.kind !== JobEvent_Kind.KIND_PROGRESS && event.kind !== JobEvent_Kind.KIND_HEARTBEAT) seen.push(event);
    if (leave(event)) return;
  }
}

function expectEachOnce(seen: readonly JobEvent[]): void {
  expect(seen.map(({ revision }) => Number(revision))).toEqual(seen.map((_, index) => index + 1));
}

describe.skipIf(needs('qemu', 'etcd'))('a fleet', () => {
  let site: FleetSite;
  let [h1, h2]: [FleetHost, FleetHost] = [] as never;
  let [g1, g2]: [Service, Service] = [] as never;
  let copies = 0;

  beforeAll(async () => {
    site = await FleetSite.open();
    [h1, h2] = await Promise.all([site.host('h1'), site.host('h2')]);
    const policy = await site.policy({
      'spiffe://site/ops': { operate: ['*'] },
      'spiffe://site/reader': { read: ['*'] },
      'spiffe://site/team1': { operate: ['vm-h1'] },
    });
    [g1, g2] = await Promise.all([site.gateway('g1', policy), site.gateway('g2', policy)]);
    for (const gateway of [g1, g2]) for (const { domain } of [h1, h2]) await gateway.domainUp(domain);
  }, 120_000);
  afterAll(async () => await site?.[Symbol.asyncDispose]());

  const copyOf = (host: FleetHost, more: object = {}) => {
    const path = join(site.dir, `copy-${(copies += 1)}`);
    const target = { $case: 'file', value: path } as const;
    return { disk: { domain: host.domain, disk: 'vd0' }, destination: { target }, ...more };
  };

  /** Starts a copy that ends by itself, as soon as that is allowed. */
  async function startSoon(gateway: Service, host: FleetHost): Promise<void> {
    let last: unknown;
    const ask = async () =>
      await gateway.startCopy(copyOf(host, { onReady: OnReady.ON_READY_FINISH })).catch((error: unknown) => {
        last = error;
        return undefined;
      });
    const job = await eventually(`a copy on ${host.name}`, ask).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${String(last)}`, { cause: last });
    });
    await gateway.until(job.id, 'STATE_COMPLETED');
  }

  test("each says which program it is, and the caller's name if the caller is known", async () => {
    const ops = 'spiffe://site/ops';
    expect(await g1.serverInfo()).toMatchObject({ mode: ServerMode.SERVER_MODE_GATEWAY, caller: ops });
    const gateway = 'spiffe://site/gateway/g1';
    expect(await h2.agent.serverInfo()).toMatchObject({
      mode: ServerMode.SERVER_MODE_AGENT,
      host: 'h2',
      caller: gateway,
    });
    const team = await site.caller(g1.address, 'spiffe://site/team1');
    expect(await team.serverInfo()).toMatchObject({ caller: 'spiffe://site/team1' });
    const stranger = await site.caller(g1.address, 'spiffe://site/stranger');
    expect(await refused(stranger.serverInfo())).toMatchObject({ reason: 'CALLER_NOT_ALLOWED' });
    const direct = await site.caller(h2.agent.address, ops);
    expect(await refused(direct.serverInfo())).toMatchObject({ reason: 'CALLER_UNKNOWN' });
  });

  test('a disk of host 2 is copied and pivoted through gateway 1, and the watch continues through gateway 2 when 1 dies', async () => {
    const policy = await site.policy({ 'spiffe://site/ops': { operate: ['*'] } });
    const g3 = await site.gateway('g1', policy);
    await g3.domainUp(h2.domain);
    const { id, host, createdBy } = await g3.startCopy(copyOf(h2, { bandwidthBytesPerSecond: 4n << 20n }));
    expect([host, createdBy]).toEqual(['h2', 'spiffe://site/ops']);
    const seen: JobEvent[] = [];
    const broken = follow(g3, id, seen, () => false).catch((error: unknown) => error);
    await eventually(
      'the job runs',
      async () => seen.some(({ job }) => job?.state === Job_State.STATE_RUNNING) || undefined,
    );
    await g3.kill();
    expect(refusalOf(await broken).code).toBe(status.UNAVAILABLE);
    await g2.setSpeed(id, 0n);
    await follow(g2, id, seen, ({ job }) => job?.state === Job_State.STATE_READY);
    const ended = await g2.abort({ job: byId(id), pivot: true });
    expect(ended.outcome).toMatchObject({ destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE });
    await follow(g2, id, seen, ({ job }) => job?.state === Job_State.STATE_COMPLETED);
    expectEachOnce(seen);
  });

  test('a watch continues through the death of the agent, and its client notices nothing', async () => {
    const { id } = await g1.startCopy(
      copyOf(h1, { bandwidthBytesPerSecond: 65_536n, onReady: OnReady.ON_READY_FINISH }),
    );
    const seen: JobEvent[] = [];
    const others: JobEvent[] = [];
    const watching = Promise.all([seen, others].map(async (list) => await follow(g1, id, list, () => false)));
    await eventually(
      'it runs',
      async () => seen.some(({ job }) => job?.state === Job_State.STATE_RUNNING) || undefined,
    );
    await h1.agent.kill();
    await site.restartAgent(h1);
    await eventually('the agent answers', async () => await g1.setSpeed(id, 0n).catch(() => undefined));
    await within(30_000, 'the end of the watch', watching);
    for (const list of [seen, others]) {
      expectEachOnce(list);
      expect(list.at(-1)?.job?.state).toBe(Job_State.STATE_COMPLETED);
    }
  });

  test('lists cover the whole fleet, and name the hosts that do not answer', async () => {
    expect((await g1.listDomains()).map(({ name, host }) => [name, host])).toEqual([
      ['vm-h1', 'h1'],
      ['vm-h2', 'h2'],
    ]);
    const { jobs, unreachableHosts } = await g1.listJobs();
    expect(new Set(jobs.map(({ host }) => host))).toEqual(new Set(['h1', 'h2']));
    expect(unreachableHosts).toEqual([]);
    await stop(h2.agent.pid);
    try {
      const partial = await within(20_000, 'a partial list', g1.listJobs());
      expect(partial.unreachableHosts).toEqual(['h2']);
      expect(new Set(partial.jobs.map(({ host }) => host))).toEqual(new Set(['h1']));
    } finally {
      process.kill(h2.agent.pid, 'SIGCONT');
    }
    // It was silent for too long to be trusted at once.
    await startSoon(g1, h2);
    expect((await g1.listJobs()).unreachableHosts).toEqual([]);
  });

  test('a caller that may only read cannot abort, and each caller sees its domains only; the gateway audits both', async () => {
    const reader = await site.caller(g1.address, 'spiffe://site/reader');
    const team1 = await site.caller(g1.address, 'spiffe://site/team1');
    const nobody = await site.caller(g1.address, 'spiffe://site/nobody');
    const { id } = await g1.startCopy(copyOf(h2));
    expect((await reader.getInfo(id)).id).toBe(id);
    expect(await refused(reader.abort({ job: byId(id) }))).toMatchObject({
      code: status.PERMISSION_DENIED,
      reason: 'CALLER_NOT_ALLOWED',
      metadata: { caller: 'spiffe://site/reader', operation: 'operate', domain: 'vm-h2' },
    });
    expect((await refused(team1.getInfo(id))).reason).toBe('JOB_NOT_FOUND');
    expect((await refused(team1.startCopy(copyOf(h2)))).reason).toBe('DOMAIN_NOT_FOUND');
    expect((await refused(team1.getDomain(present((await g1.getDomain(h2.domain)).uuid)))).reason).toBe(
      'DOMAIN_NOT_FOUND',
    );
    expect((await team1.listDomains()).map(({ name }) => name)).toEqual(['vm-h1']);
    expect((await team1.listJobs()).jobs.every(({ host }) => host === 'h1')).toBe(true);
    expect(await nobody.listDomains()).toEqual([]);
    expect((await g1.getInfo(id)).state).toBeLessThan(Job_State.STATE_CANCELLING);
    await g1.abort({ job: byId(id), force: true });
    const audit = g1.log.split('\n').filter((line) => line.includes('audit: Abort'));
    expect(audit.some((line) => line.includes('refused') && line.includes('spiffe://site/reader'))).toBe(true);
    const outside = g1.log
      .split('\n')
      .filter((line) => line.includes('audit: ') && line.includes('spiffe://site/team1'));
    for (const asked of ['GetInfo', 'StartCopy', 'GetDomain']) {
      const line = outside.find((one) => one.includes(`audit: ${asked} refused`));
      // The caller hears that it does not exist, and the log says why.
      expect(line).toContain('"hides":"caller spiffe://site/team1 may not read domain vm-h2; ');
    }
    expect(audit.some((line) => line.includes('done') && line.includes('spiffe://site/ops'))).toBe(true);
    // The agent knows the caller behind the gateway.
    const there = h2.agent.log.split('\n').filter((line) => line.includes('audit: Abort done'));
    expect(
      there.some(
        (line) => line.includes('"caller":"spiffe://site/ops"') && line.includes('"via":"spiffe://site/gateway/g1"'),
      ),
    ).toBe(true);
  });

  test('an agent answers gateways only, and believes only them about callers', async () => {
    const direct = await site.caller(`localhost:${h1.port}`, 'spiffe://site/ops');
    expect(await refused(direct.listJobs())).toMatchObject({ code: status.UNAUTHENTICATED, reason: 'CALLER_UNKNOWN' });
  });

  test('no certificate, one of another authority, or an expired one: no connection, and it is audited', async () => {
    const other = await Authority.make(site.dir, 'other');
    const expired = await site.channelOf(await site.authority.sign('late', { uri: 'spiffe://site/ops', days: 0 }));
    const strangers = [
      credentials.createSsl(await readFile(site.authority.caFile)),
      await site.channel('spiffe://site/ops', other),
      expired,
      credentials.createInsecure(),
    ];
    for (const channel of strangers) {
      const caller = new Caller(g1.address, channel);
      expect((await within(20_000, 'its answer', refused(caller.listJobs()))).code).toBe(status.UNAVAILABLE);
      caller.close();
    }
    await eventually('the audit', async () => g1.log.includes('audit: connection refused') || undefined);
    expect((await g1.listJobs()).unreachableHosts).toEqual([]);
  });

  test('a second agent of the same name refuses to start', async () => {
    await mkdir(join(site.dir, 'second'));
    const second = site.startAgent('h1', h1.port + 1, ['--state-dir', join(site.dir, 'second')]);
    // With that status a service manager does not restart it.
    await expect(second).rejects.toThrow(/ended with status 78: .*The host name h1 is taken/s);
    expect((await g1.getDomain(h1.domain)).host).toBe('h1');
  });

  test('with etcd down calls continue as long as the lease, and then nothing is changed; when it is back everything recovers', async () => {
    const copy = copyOf(h2, { bandwidthBytesPerSecond: 65_536n, onReady: OnReady.ON_READY_PIVOT });
    const running = await g1.startCopy(copy);
    await site.etcd.signal('SIGKILL');
    expect((await g1.getInfo(running.id)).id).toBe(running.id);
    expect((await g1.listDomains()).length).toBe(2);
    const refusal = await eventually('the agent trusts its lease no more', async () => {
      return await g1.setSpeed(running.id, 65_536n).then(
        () => undefined,
        (error: unknown) => refusalOf(error),
      );
    });
    expect(refusal).toMatchObject({ reason: 'DIRECTORY_UNREACHABLE', code: status.UNAVAILABLE });
    // A running job continues, and can be watched and ended.
    expect((await g1.getInfo(running.id)).state).toBe(Job_State.STATE_RUNNING);
    // The move of its guest was requested while that was known to be right. Now it is not known any more.
    await h2.qemu.admin.execute('block-job-set-speed', { device: running.id, speed: 0 });
    await g1.until(running.id, 'STATE_PIVOTING');
    await eventually('the pivot waits', () => h2.agent.log.includes('The pivot waits') || undefined);
    expect((await graphOf(h2.qemu.admin)).jobs).toEqual([`${running.id} mirror ready`]);
    await site.etcd.start();
    await startSoon(g1, h1);
    const { job } = await g1.until(running.id, 'STATE_COMPLETED');
    expect(job).toMatchObject({ host: 'h2', outcome: { guestWritesTo: copy.destination.target.value } });
  }, 90_000);

  test('an agent that dies is forgotten within its TTL, and its calls are answered, not left hanging', async () => {
    const entry = async () => await site.etcd.ctl('get', `/blockjob/v1/domains/${h2.qemu.uuid}`, '-w', 'fields');
    const before = await entry();
    await h2.agent.kill();
    const refusal = await within(20_000, 'an answer', refused(g1.getDomain(h2.domain)));
    expect(refusal).toMatchObject({ code: status.UNAVAILABLE, reason: 'HOST_UNREACHABLE' });
    await within(
      (TTL_SECONDS + 1) * 1000 + 1000,
      'the directory forgets it',
      eventually('gone', async () => ((await site.etcd.keys('/blockjob/v1/hosts/')).length === 1 ? true : undefined)),
    );
    await site.restartAgent(h2);
    await g1.domainUp(h2.domain);
    await startSoon(g1, h2);
    // It was never given up: nobody could have taken it meanwhile, and no gateway heard that it is gone.
    expect(revisionsIn(await entry())).toEqual(revisionsIn(before));
  });

  test('a domain that migrates to another host has one owner: the one that lost it changes nothing', async () => {
    const before = await g2.getDomain(h1.domain);
    await site.migrate(h1, h2);
    // From the first moment on, whatever the directory says: a copy there would copy an image that does not change.
    const refusal = await refused(h1.agent.startCopy(copyOf(h1)));
    expect(refusal).toMatchObject({ code: status.FAILED_PRECONDITION });
    expect(GONE_FROM_HERE).toContain(refusal.reason);
    // A gateway that has not heard of the move asks again, and nobody changes the domain before the new host has taken
    // it.
    const copy = copyOf(h1, { onReady: OnReady.ON_READY_FINISH });
    const { id, host } = await eventually('the new host has taken it', async () => {
      return await g2.startCopy(copy).catch((error: unknown) => {
        if (!GONE_FROM_HERE.includes(refusalOf(error).reason)) throw error;
        return undefined;
      });
    });
    expect(host).toBe('h2');
    await g2.until(id, 'STATE_COMPLETED');
    expect(await g1.getDomain(h1.domain)).toMatchObject({ host: 'h2', uuid: before.uuid });
    expect(await refused(h1.agent.startCopy(copyOf(h1)))).toMatchObject({ reason: 'NOT_OWNER' });
  });
});
