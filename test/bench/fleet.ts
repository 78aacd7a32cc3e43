/**
 * make bench: measures the cost of a large fleet for a gateway, and of a gateway for a call. Everything is real except
 * the hosts that are only in the directory: 1,000 by the code of an agent, 10,000 by its layout and transactions (crowd.ts
 * says why). One run measures both sides of each comparison, in turns.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { domainKey, domainValue } from '../../src/fleet/directory/layout.ts';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { eventually, present } from '../support/checks.ts';
import { FleetSite } from '../support/fleet/fleet-site.ts';
import { DEBUGGED, liveBytes, useOf } from '../support/memory.ts';
import { type Caller, refused } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';
import { type Contender, inTurns, seconds } from './turns.ts';

const SIZES = [
  { hosts: 1_000, how: 'join', processes: 1 },
  { hosts: 10_000, how: 'write', processes: 4 },
] as const;
const DOMAINS_EACH = 50;
const STARTS = 3;
const QUIET_MS = 60_000;
const MOVES = 2_000;
const WARM_UP = 200;
const PAIRS = 2_000;
/** An agent shares a sample for 5 ms: without this, the second call of each pair would get that of the first. */
const SAMPLE_IS_OLD_MS = 8;
const untilSampleIsOld = async () => await sleep(SAMPLE_IS_OLD_MS);

type Size = (typeof SIZES)[number];

const US = 'blockjobd gateway';

/** The figures of one fleet, also those of calls through its gateway. */
async function measureFleet(size: Size): Promise<readonly Figure[]> {
  using opened = new DisposableStack();
  await using site = await FleetSite.open();
  const policy = await site.policy({ 'spiffe://site/ops': { operate: ['*'] } });
  const named = (what: string, unit: string, values: readonly number[], by = US): Figure => {
    return { what: `${what}, ${size.hosts} hosts × ${DOMAINS_EACH} VMs`, by, unit, values };
  };

  const empty = await coldStarts(site, policy);
  const emptyBytes = await liveBytes(empty.gateway);
  await empty.gateway.stop();
  const joinedMs = await crowd(size, site.etcd.url, opened);
  const full = await coldStarts(site, policy);
  const { gateway } = full;
  await sleep(QUIET_MS);
  const resident = useOf(gateway).residentMib;
  const kept = ((await liveBytes(gateway)) - emptyBytes) / (size.hosts * DOMAINS_EACH);
  const moveMs = await moves(site.etcd.url, gateway);
  return [
    named('all hosts are in the directory', 's', [joinedMs / 1000], size.how === 'join' ? 'agents' : 'their layout'),
    named('serves after', 'ms', full.ms),
    named('serves after', 'ms', empty.ms, 'with an empty directory'),
    named('processor time until it serves', 'ms', full.cpuMs),
    named('processor time until it serves', 'ms', empty.cpuMs, 'with an empty directory'),
    named('memory after a minute', 'MiB', [resident]),
    named('kept of each VM', 'bytes', [kept]),
    named('processor time of a VM that moves', 'ms', [moveMs]),
    ...(await calls(site, gateway, named)),
  ];
}

interface Starts {
  readonly ms: readonly number[];
  readonly cpuMs: readonly number[];
  /** The last one, which runs. */
  readonly gateway: Service;
}

/** From the start to "serves". */
async function coldStarts(site: FleetSite, policy: string): Promise<Starts> {
  const [ms, cpuMs]: [number[], number[]] = [[], []];
  for (;;) {
    const begun = performance.now();
    const gateway = await site.gateway('g1', policy, { env: DEBUGGED, servesMs: 120_000 });
    ms.push(performance.now() - begun);
    cpuMs.push(useOf(gateway).cpuMs);
    if (ms.length === STARTS) return { ms, cpuMs, gateway };
    await gateway.stop();
  }
}

/** Resolves with the time until all are in the directory. */
async function crowd({ hosts, how, processes }: Size, url: string, opened: DisposableStack): Promise<number> {
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: processes }, async (_, at) => {
      const [from, to] = [at, at + 1].map((part) => String(Math.floor((hosts * part) / processes)));
      const args = [join(import.meta.dirname, 'crowd.ts'), how, url, present(from), present(to), String(DOMAINS_EACH)];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      opened.defer(() => child.kill('SIGKILL'));
      await once(child.stdout, 'data');
    }),
  );
  return performance.now() - begun;
}

/** The processor time of the gateway for one of many VMs that move to another host. */
async function moves(url: string, gateway: Service): Promise<number> {
  using etcd = new Etcd({ endpoints: [url] });
  const atOnce = pLimit(64);
  const place = async (name: string, at: number, round: number) => {
    const id = `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`;
    const host = `host-${String((at + round) % 1000).padStart(5, '0')}`;
    const ifSo = [put(domainKey(id), domainValue({ name, host, instance: 'moved' }))];
    await etcd.txn({ when: [], ifSo }, { timeoutMs: 60_000 });
  };
  const placeAll = async (round: number) => {
    await Promise.all(Array.from({ length: MOVES }, async (_, at) => await atOnce(place, `moves-${at}`, at, round)));
    const last = `last-${round}`;
    await place(last, MOVES, round);
    await eventually('the gateway knows the last', async () => {
      const { reason } = await refused(gateway.getDomain(last));
      return reason === 'DOMAIN_NOT_FOUND' ? undefined : reason;
    });
  };
  await placeAll(1);
  const before = useOf(gateway).cpuMs;
  await placeAll(2);
  return (useOf(gateway).cpuMs - before) / MOVES;
}

/** The same calls to an agent, directly and through the gateway. Each of them asks QEMU. */
async function calls(
  site: FleetSite,
  gateway: Service,
  named: (what: string, unit: string, values: readonly number[], by: string) => Figure,
): Promise<readonly Figure[]> {
  const host = await site.host('h1');
  await gateway.domainUp(host.domain);
  const target = { $case: 'file', value: join(site.dir, 'copy') } as const;
  const { id } = await gateway.startCopy({ disk: { domain: host.domain, disk: 'vd0' }, destination: { target } });
  await gateway.until(id, 'STATE_READY');
  const asked: Readonly<Record<string, (caller: Caller) => Promise<unknown>>> = {
    GetInfo: async (caller) => await caller.getInfo(id),
    GetDomain: async (caller) => await caller.getDomain(host.domain),
  };
  const figures: Figure[] = [];
  for (const [what, call] of Object.entries(asked)) {
    const by = (name: string, caller: Caller): Contender => ({
      by: name,
      once: async () => [await milliseconds(caller, call)],
    });
    const both = [by('through a gateway', gateway), by('the agent directly', host.agent)];
    await inTurns([{ what, unit: 'ms' }], both, WARM_UP, untilSampleIsOld);
    const turns = await inTurns([{ what, unit: 'ms' }], both, PAIRS, untilSampleIsOld);
    figures.push(...turns.map((one) => named(what, one.unit, one.values, one.by)));
  }
  return figures;
}

async function milliseconds(caller: Caller, call: (caller: Caller) => Promise<unknown>): Promise<number> {
  return (await seconds(async () => await call(caller))) * 1000;
}

export async function measure(): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const size of SIZES) figures.push(...(await measureFleet(size)));
  return figures;
}
