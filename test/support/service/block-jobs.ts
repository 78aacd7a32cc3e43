/** BlockJobs in each of its forms: the agent itself, the same through gRPC, and a fleet of two hosts. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { domainId, type Host } from '../../../src/fleet/directory/directory.ts';
import { StaticDirectory } from '../../../src/fleet/directory/static-directory.ts';
import { Fleet } from '../../../src/fleet/gateway/fleet.ts';
import { Remote } from '../../../src/grpc/remote/remote.ts';
import { serve } from '../../../src/grpc/server.ts';
import type { Observer } from '../../../src/lib/observer.ts';
import { monitorIn } from '../checks.ts';
import { type ChainImage, makeChain, type Qemu, startQemu, testDir } from '../real-qemu/qemu.ts';
import { PATIENT, TestAgent } from './agent.ts';
import { INFO } from './stub-server.ts';

export const WAYS = ['the agent of the host', 'the agent, through gRPC', 'a fleet of two hosts'] as const;
export type Way = (typeof WAYS)[number];

export interface JobsWorld extends AsyncDisposable {
  readonly jobs: BlockJobs;
  /** Runs the domain; the only host, or the second one. */
  readonly host: string;
  readonly qemu: Qemu;
  readonly top: ChainImage;
  readonly dir: string;
  /** The QEMU of each host; its one domain is `vm-of-HOST`. */
  readonly qemus: ReadonlyMap<string, Qemu>;
}

const MIB = 1 << 20;
const silent = pino({ level: 'silent' });

export async function world(way: Way): Promise<JobsWorld> {
  await using opened = new AsyncDisposableStack();
  const { path: dir } = opened.use(await testDir());
  const names = way === 'a fleet of two hosts' ? ['host1', 'host2'] : ['host1'];
  const hosts = await Promise.all(names.map(async (name) => await startHost(name, dir, opened)));
  const last = hosts.at(-1);
  if (last === undefined) throw new Error('no host');
  const jobs = await waysIn(way, hosts, dir, opened);
  const held = opened.move();
  const qemus = new Map(hosts.map(({ host, qemu }) => [host, qemu]));
  return { jobs, ...last, qemus, dir, [Symbol.asyncDispose]: async () => await held.disposeAsync() };
}

interface RunningHost {
  readonly host: string;
  readonly agent: TestAgent;
  readonly qemu: Qemu;
  readonly top: ChainImage;
}

/** An agent with one QEMU, `vm-of-HOST`, whose disk `vd0` has a chain of two. */
async function startHost(host: string, dir: string, opened: AsyncDisposableStack): Promise<RunningHost> {
  const chain = await makeChain(dir, { prefix: host, formats: ['qcow2', 'qcow2'], sizeBytes: 2 * MIB });
  const name = `vm-of-${host}`;
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  const qemu = opened.use(await startQemu({ style: 'blockdev', name, disks, extraArgs: monitorIn(dir, name) }));
  const state = join(dir, `state-of-${host}`);
  const qmp = { [name]: join(dir, `${name}.sock`) };
  const agent = opened.use(await TestAgent.start({ host, dir: state, qmp, allow: [dir] }));
  const top = chain.at(-1);
  if (top === undefined) throw new Error('no chain');
  return { host, agent, qemu, top };
}

async function waysIn(
  way: Way,
  hosts: readonly RunningHost[],
  dir: string,
  opened: AsyncDisposableStack,
): Promise<BlockJobs> {
  const [first] = hosts;
  if (first === undefined) throw new Error('no host');
  if (way === 'the agent of the host') return first.agent.agent;
  if (way === 'a fleet of two hosts') return await fleetOf(hosts, { dir, opened });
  return opened.use(connectTo({ name: 'host1', address: await addressOf(first, { dir, opened }) }));
}

interface Place {
  readonly dir: string;
  readonly opened: AsyncDisposableStack;
}

async function addressOf({ host, agent }: Pick<RunningHost, 'host' | 'agent'>, { dir, opened }: Place) {
  const server = await serve(agent.agent, {
    info: INFO,
    listen: { unixSocket: join(dir, `${host}.sock`) },
    log: silent,
  });
  opened.defer(async () => await server.drain(0));
  return server.address;
}

/** The hosts behind a gateway, each through gRPC. `observer` sees each call to one of them. */
export async function fleetOf(
  hosts: readonly Pick<RunningHost, 'host' | 'agent'>[],
  { dir, opened, observer }: Place & { readonly observer?: Observer },
): Promise<Fleet> {
  const path = join(dir, 'hosts.json');
  const entries = hosts.map(async (one) => [one.host, { address: await addressOf(one, { dir, opened }) }] as const);
  await writeFile(path, JSON.stringify({ hosts: Object.fromEntries(await Promise.all(entries)) }));
  const directory = opened.use(await StaticDirectory.open({ path, ask, log: silent }));
  await directory.ready();
  const connect = (host: Host) => connectTo(host, observer);
  return opened.use(new Fleet({ directory, connect, watchersPerJob: 100 }));
}

/** Unchanged, because nobody has certificates. */
export function connectTo({ name, address }: Pick<Host, 'name' | 'address'>, observer?: Observer): Remote {
  return new Remote({ host: name, address, credentials: credentials.createInsecure(), ...(observer && { observer }) });
}

async function ask(host: Host) {
  using remote = connectTo(host);
  const { items } = await remote.listDomains({ host: '', pageSize: 0, pageToken: '' }, PATIENT);
  return items.map(({ name, uuid }) => ({ id: domainId(uuid ?? '', name, host.name), name }));
}
