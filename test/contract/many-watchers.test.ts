/**
 * The watchers of a large site behind one gateway: a few platforms, on forty connections, with the default limits.
 * `WATCHES=400` has fewer.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { WatchJobRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import type { Job } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { type FleetHost, FleetSite } from '../support/fleet/fleet-site.ts';
import { askUntil } from '../support/hostile/good-client.ts';
import { memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { needs } from '../support/means.ts';
import { peakBytes } from '../support/memory.ts';
import { makeChain, within } from '../support/real-qemu/qemu.ts';
import { byId, refusalOf } from '../support/service/caller.ts';
import type { Pair } from '../support/service/certificates.ts';
import type { Service } from '../support/service/service.ts';
import { collect } from '../support/service/stub-server.ts';
import type { WatchesSeen } from '../support/watchers.ts';

const MIB = 1 << 20;
/** The memory limit of the gateway and of the agent, as of any service that is flooded. */
const MAY_HAVE = 512 * MIB;
const STAYS_BELOW = 384 * MIB;
/** Each job has 80 of the 2,000 watches; the limit is 100. */
const JOBS = 25;
const PLATFORMS = 4;
/** On each connection. */
const WATCHES = 50;
/** The connections of each platform. */
const CONNECTIONS = Number(process.env['WATCHES'] ?? 2000) / PLATFORMS / WATCHES;
const SPEEDS = [1n, 2n, 3n].map((step) => 65_536n + step);
/** The watches of one connection: four fifths of its calls. */
const MOST_WATCHES = 400;
const BEYOND = 20;

/** A copy of each disk except the first, which takes minutes. */
async function startJobs(site: FleetSite, gateway: Service, host: FleetHost): Promise<readonly Job[]> {
  const starts = Array.from({ length: JOBS }, async (_, at) => {
    const target = { $case: 'file', value: join(site.dir, `copy-${at}`) } as const;
    const disk = { domain: host.domain, disk: `vd${at + 1}` };
    return await gateway.startCopy({ disk, destination: { target }, bandwidthBytesPerSecond: 65_536n });
  });
  return await Promise.all(starts);
}

interface Platform {
  readonly begun: Promise<unknown>;
  readonly seen: Promise<WatchesSeen>;
}

function platform(site: FleetSite, { address }: Service, pair: Pair, jobs: readonly Job[]): Platform {
  const tls = [site.authority.caFile, pair.privateKeyFile, pair.certificateFile];
  const counts = [String(CONNECTIONS), String(WATCHES)];
  const which = jobs.map(({ id, revision }) => `${id}:${revision}`);
  const program = join(import.meta.dirname, '../support/watchers.ts');
  const child = spawn(process.execPath, [program, address, ...tls, ...counts, ...which], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const begun = Promise.withResolvers<void>();
  const reading = createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    begun.resolve();
  });
  const seen = once(reading, 'close').then(() => {
    begun.reject(new Error('it has ended'));
    return JSON.parse(present(lines[1])) as WatchesSeen;
  });
  return { begun: begun.promise, seen };
}

/** A client that wants more watches than a connection allows: the number that it gets, and the error of the others. */
async function wantMore(site: FleetSite, gateway: Service, jobs: readonly Job[]) {
  const caller = await site.caller(gateway.address, 'spiffe://site/platform');
  const watch = (_: unknown, at: number) => {
    const { id, revision } = present(jobs[at % jobs.length]);
    const request = WatchJobRequest.fromPartial({ job: byId(id), afterRevision: revision - 1n });
    return caller.blockJobs.watchJob(request);
  };
  const watches = Array.from({ length: MOST_WATCHES }, watch);
  await Promise.all(watches.map(async (one) => await once(one, 'data')));
  const more = await Promise.all(Array.from({ length: BEYOND }, watch).map(collect));
  for (const one of watches) one.on('error', () => undefined).cancel();
  return more.map(({ error }) => refusalOf(error)).map(({ code, reason }) => ({ code, reason }));
}

test.skipIf(needs('qemu', 'etcd', 'cgroup'))(
  'many watches through one gateway: each has every revision once, and others are answered',
  async () => {
    await using ofGateway = await memoryCgroup(MAY_HAVE, 'gateway');
    await using ofAgent = await memoryCgroup(MAY_HAVE, 'agent');
    await using site = await FleetSite.open();
    const images = Array.from({ length: JOBS }, async (_, at) => {
      const [image] = await makeChain(site.dir, { prefix: `more${at}`, formats: ['raw'], sizeBytes: 8 * MIB });
      return present(image);
    });
    const host = await site.host('h1', { images: await Promise.all(images), under: ofAgent.under });
    const policy = await site.policy({
      'spiffe://site/ops': { operate: ['*'] },
      'spiffe://site/platform': { read: ['*'] },
    });
    const gateway = await site.gateway('g1', policy, { under: ofGateway.under });
    await gateway.domainUp(host.domain);
    const jobs = await startJobs(site, gateway, host);

    const pair = await site.authority.sign('platform', { uri: 'spiffe://site/platform' });
    const platforms = Array.from({ length: PLATFORMS }, () => platform(site, gateway, pair, jobs));
    let refusals: unknown;
    const trial = async () => {
      await Promise.all(platforms.map(async ({ begun }) => await within(250_000, 'the watches', begun)));
      refusals = await wantMore(site, gateway, jobs);
      for (const speed of SPEEDS) await Promise.all(jobs.map(async ({ id }) => await gateway.setSpeed(id, speed)));
      await Promise.all(jobs.map(async ({ id }) => await gateway.abort({ job: byId(id), force: true })));
      return await Promise.all(platforms.map(async ({ seen }) => await within(250_000, 'their ends', seen)));
    };
    const trying = trial();
    const { lost } = await askUntil(trying, gateway.address, await site.channel('spiffe://site/ops'));
    const seen = await trying;

    const last = await Promise.all(jobs.map(async ({ id }) => `${id} to ${(await gateway.getInfo(id)).revision}`));
    const each = (CONNECTIONS * WATCHES) / JOBS;
    const whole = Object.fromEntries(last.map((one) => [one, each]));
    expect(seen).toEqual(Array.from({ length: PLATFORMS }, () => whole));
    const refusal = { code: status.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_CALLS' };
    expect({ lost, refusals }).toEqual({ lost: [], refusals: Array.from({ length: BEYOND }, () => refusal) });
    const large = [gateway, host.agent].map(peakBytes).filter((bytes) => bytes >= STAYS_BELOW);
    expect({ large, alive: [gateway.alive, host.agent.alive] }).toEqual({ large: [], alive: [true, true] });
  },
  300_000,
);
