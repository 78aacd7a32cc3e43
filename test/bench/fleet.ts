/**
 * make bench: measures the cost of a large fleet for a gateway, and of a gateway for a call. Everything is real except
 * the hosts that are only in the directory. One run measures both sides of each comparison, in turns.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { present } from '../support/checks.ts';
import { FleetSite } from '../support/fleet/fleet-site.ts';
import { useOf } from '../support/memory.ts';
import type { Caller } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';

const AGENTS = 1000;
const DOMAINS_EACH = 50;
const STARTS = 3;
const WARM_UP = 200;
const PAIRS = 1000;

/** Sorted. */
type Samples = readonly number[];

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function at(samples: Samples, share: number): number {
  return present(samples[Math.min(samples.length - 1, Math.floor(share * samples.length))]);
}

/** The time from the start to "serves": the median of some starts. The last service is left running. */
async function coldStart(site: FleetSite): Promise<{ ms: number; mib: number; gateway: Service }> {
  const policy = await site.policy({ 'spiffe://site/ops': { operate: ['*'] } });
  const times: number[] = [];
  for (;;) {
    const begun = performance.now();
    const gateway = await site.gateway('g1', policy);
    times.push(performance.now() - begun);
    const mib = Math.round(useOf(gateway).residentMib);
    if (times.length === STARTS) return { ms: Math.round(at(times.toSorted(byNumber), 0.5)), mib, gateway };
    await gateway.stop();
  }
}

/** The same call in both ways, in turns; milliseconds. */
async function compare(
  direct: Caller,
  routed: Caller,
  call: (caller: Caller) => Promise<unknown>,
): Promise<{ direct: Samples; routed: Samples }> {
  const [ofDirect, ofRouted]: [number[], number[]] = [[], []];
  const time = async (caller: Caller, samples: number[]) => {
    const begun = performance.now();
    await call(caller);
    samples.push(performance.now() - begun);
  };
  for (let pair = 0; pair < WARM_UP + PAIRS; pair += 1) {
    await time(direct, ofDirect);
    await time(routed, ofRouted);
  }
  return { direct: measured(ofDirect), routed: measured(ofRouted) };
}

function measured(samples: Samples): Samples {
  return samples.slice(WARM_UP).toSorted(byNumber);
}

function byNumber(a: number, b: number): number {
  return a - b;
}

/** Resolves with the time until all are in the directory. */
async function crowd(url: string, opened: DisposableStack): Promise<number> {
  const args = [join(import.meta.dirname, 'crowd.ts'), url, String(AGENTS), String(DOMAINS_EACH)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  opened.defer(() => child.kill('SIGKILL'));
  const [said] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  return Number(said);
}

using opened = new DisposableStack();
await using site = await FleetSite.open();
say(`${AGENTS} agents with ${DOMAINS_EACH} domains each are in a real etcd; one more is real, with a QEMU.\n`);

const empty = await coldStart(site);
await empty.gateway.stop();
const joined = await crowd(site.etcd.url, opened);
say(`all agents joined and claimed their domains in ${(joined / 1000).toFixed(1)} s`);
const full = await coldStart(site);
say(
  `a gateway has read all in ${full.ms - empty.ms} ms: it serves after ${full.ms} ms, with an empty directory ${empty.ms}`,
);
say(`its memory is ${full.mib} MiB, with an empty directory ${empty.mib}`);

const host = await site.host('h1');
await full.gateway.domainUp(host.domain);
const target = { $case: 'file', value: join(site.dir, 'copy') } as const;
const { id } = await full.gateway.startCopy({ disk: { domain: host.domain, disk: 'vd0' }, destination: { target } });
await full.gateway.until(id, 'STATE_READY');
const calls: Readonly<Record<string, (caller: Caller) => Promise<unknown>>> = {
  GetInfo: async (caller) => await caller.getInfo(id),
  GetDomain: async (caller) => await caller.getDomain(host.domain),
};
say(`\n${PAIRS} pairs of calls, one after the other:\n`);
say('| call | direct, median | 99 % | through a gateway, median | 99 % | ratio of the medians |');
say('|---|---|---|---|---|---|');
for (const [name, call] of Object.entries(calls)) {
  const { direct, routed } = await compare(host.agent, full.gateway, call);
  const cells = [direct, routed].flatMap((samples) => [at(samples, 0.5), at(samples, 0.99)]);
  const ratio = at(routed, 0.5) / at(direct, 0.5);
  say(`| ${name} | ${cells.map((ms) => `${ms.toFixed(1)} ms`).join(' | ')} | ${ratio.toFixed(1)} |`);
}
