/**
 * The server of the caller of a story: an agent in the test's own process, a gateway before it, or a service to be
 * killed.
 */
import { Guarded } from '../../../src/access/guarded.ts';
import { Policy } from '../../../src/access/policy.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import type { Observer } from '../../../src/lib/observer.ts';
import { eventually } from '../checks.ts';
import { PATIENT, TestAgent } from '../service/agent.ts';
import { connectTo, fleetOf } from '../service/block-jobs.ts';
import { Service } from '../service/service.ts';

/** The gateway's policy knows it. */
export const CALLER = 'spiffe://site/operator';
const POLICY = JSON.stringify({ callers: { [CALLER]: { operate: ['vm1'] } } });

export type Serves = 'AGENT' | 'GATEWAY' | 'PROCESS';

export interface StoryService extends AsyncDisposable {
  /** For the caller. */
  readonly jobs: BlockJobs;
  /** For the story itself: the owner of the jobs, asked directly and not through a gateway. */
  readonly agent: BlockJobs;
  readonly jobsFolder: string;
  /** At once: it does nothing more. */
  readonly kill: () => void;
}

export interface StoryPlace {
  readonly dir: string;
  /** The monitor of vm1. */
  readonly socketPath: string;
  /** Called for each call of a gateway to an agent. */
  readonly onAsked: (host: string, rpc: string) => void;
}

export async function serveStory(serves: Serves, place: StoryPlace): Promise<StoryService> {
  if (serves === 'PROCESS') return await aProcess(place);
  await using opened = new AsyncDisposableStack();
  const host1 = opened.use(await agentOf('host1', place));
  const { agent, jobsFolder } = host1;
  const jobs = serves === 'AGENT' ? agent : await aGateway(host1, place, opened);
  return held({ jobs, agent, jobsFolder, kill: notKilled }, opened.move());
}

function notKilled(): never {
  throw new Error('only a process is killed');
}

function held(service: Omit<StoryService, keyof AsyncDisposable>, opened: AsyncDisposableStack): StoryService {
  return { ...service, [Symbol.asyncDispose]: async () => await opened.disposeAsync() };
}

async function agentOf(host: string, { dir, socketPath }: StoryPlace): Promise<TestAgent> {
  const isOfVm = host === 'host1';
  const state = isOfVm ? dir : `${dir}/${host}`;
  return await TestAgent.start({ host, dir: state, qmp: isOfVm ? { vm1: socketPath } : {}, allow: [dir] });
}

/** With a policy, and a second host that does not have the VM. */
async function aGateway(host1: TestAgent, place: StoryPlace, opened: AsyncDisposableStack): Promise<BlockJobs> {
  const hosts = [
    { host: 'host1', agent: host1 },
    { host: 'host2', agent: opened.use(await agentOf('host2', place)) },
  ];
  const observer: Observer = {
    during: async (doing, work) => {
      if (doing.does === 'ask') place.onAsked(doing.host, doing.rpc);
      return await work();
    },
  };
  const fleet = await fleetOf(hosts, { dir: place.dir, opened, observer });
  const now = Policy.read(POLICY);
  if (typeof now === 'string') throw new Error(now);
  return new Guarded(fleet, { now, onChange: () => ({ [Symbol.dispose]: () => undefined }) });
}

async function aProcess({ dir, socketPath }: StoryPlace): Promise<StoryService> {
  await using opened = new AsyncDisposableStack();
  const service = opened.use(await Service.start({ dir, qmp: { vm1: socketPath }, allow: [dir] }));
  const jobs = opened.use(connectTo({ name: 'host1', address: `unix:${dir}/api.sock` }));
  await eventually('vm1 can be asked', async () => {
    const { items } = await jobs.listDomains({ host: '', pageSize: 0, pageToken: '' }, PATIENT);
    return items.some(({ connection }) => connection.up) ? true : undefined;
  });
  const kill = () => void process.kill(service.pid, 'SIGKILL');
  return held({ jobs, agent: jobs, jobsFolder: `${dir}/state/jobs`, kill }, opened.move());
}
