/**
 * Two VMs of two tenants on one host, `mine` and `theirs`, each with a disk `vd0`: an agent with a policy of its own,
 * and a gateway in front of it. Every question to QEMU, to files and to the agent is counted.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { Guarded } from '../../../src/access/guarded.ts';
import { Policy } from '../../../src/access/policy.ts';
import type { BlockJobs, Call } from '../../../src/core/block-jobs.ts';
import { domainId, type Host } from '../../../src/fleet/directory/directory.ts';
import { StaticDirectory } from '../../../src/fleet/directory/static-directory.ts';
import { Fleet } from '../../../src/fleet/gateway/fleet.ts';
import { Certificates } from '../../../src/grpc/certificates.ts';
import { connect } from '../../../src/grpc/remote/connect.ts';
import { serve } from '../../../src/grpc/server.ts';
import type { Observer } from '../../../src/lib/observer.ts';
import { FakeQemu } from '../fake-qemu/fake-qemu.ts';
import { CountedFiles } from '../images/counted-files.ts';
import { qcow2 } from '../images/qcow2-header.ts';
import { testDir } from '../real-qemu/qemu.ts';
import { copyTo, NO_LOOKS, PATIENT, TestAgent } from './agent.ts';
import { Caller } from './caller.ts';
import { Authority } from './certificates.ts';
import { INFO } from './stub-server.ts';

const SIZE_BYTES = 1024 * 1024;
const GATEWAY = 'spiffe://site/gateway/g1';
const log = pino({ level: 'silent' });
/** A long interval, so that nothing is asked while a test counts. */
const NEVER_MS = 3_600_000;

export const UUIDS = {
  mine: '11111111-2222-4333-8444-555555555555',
  theirs: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
};
export const GUARDED_WAYS = ['an agent', 'a gateway'] as const;
export type GuardedWay = (typeof GUARDED_WAYS)[number];
type Callers = Readonly<Record<string, { readonly read?: readonly string[]; readonly operate?: readonly string[] }>>;

/** A policy that a test changes. */
class TestPolicy {
  now = this.#read({
    'spiffe://site/me': { operate: ['mine'] },
    'spiffe://site/a': { operate: ['a*'] },
    'spiffe://site/reader': { read: ['*'] },
    'spiffe://site/ops': { operate: ['*'] },
  });
  readonly #listeners = new Set<() => void>();

  becomes(callers: Callers): void {
    this.now = this.#read(callers);
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #read(callers: Callers): Policy {
    const policy = Policy.read(JSON.stringify({ callers }));
    if (typeof policy === 'string') throw new Error(policy);
    return policy;
  }
}

export class Tenants implements AsyncDisposable {
  readonly policy = new TestPolicy();
  readonly dir: string;
  readonly agent: TestAgent;
  readonly qemus: Readonly<Record<'mine' | 'theirs', FakeQemu>>;
  /** The jobs of `theirs`: one that runs, and one that has ended. */
  readonly jobs: { running: string; ended: string } = { running: '', ended: '' };
  /** Whether the gateway hears of the VMs. */
  hears = true;
  /** Called before an agent changes an object. */
  beforeChange: () => void = () => undefined;
  readonly #asked: string[];
  readonly #files: CountedFiles;
  readonly #authority: Authority;
  readonly #opened: AsyncDisposableStack;
  readonly #addresses: Partial<Record<GuardedWay, string>> = {};
  #certificates = 0;

  private constructor(
    world: Pick<Tenants, 'dir' | 'agent' | 'qemus'>,
    asked: string[],
    authority: Authority,
    opened: AsyncDisposableStack,
    held: { tenants?: Tenants },
  ) {
    this.dir = world.dir;
    this.agent = world.agent;
    this.qemus = world.qemus;
    this.#asked = asked;
    this.#authority = authority;
    this.#opened = opened;
    this.#files = opened.use(new CountedFiles());
    held.tenants = this;
  }

  static async open(): Promise<Tenants> {
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir('bj-tenants-'));
    const asked: string[] = [];
    const start = async (name: 'mine' | 'theirs') => {
      const path = join(dir, `${name}.qcow2`);
      await writeFile(path, qcow2({ size: BigInt(SIZE_BYTES) }));
      return opened.use(
        await FakeQemu.start({
          socketPath: join(dir, `${name}.qmp`),
          name,
          uuid: UUIDS[name],
          disks: [{ id: 'vd0', bus: 'virtio-blk', chain: [{ format: 'qcow2', path }] }],
          sizeBytes: SIZE_BYTES,
          onLine: (line) => line.line === 'command' && asked.push(`${name} ${line.execute}`),
        }),
      );
    };
    const qemus = { mine: await start('mine'), theirs: await start('theirs') };
    const qmp = { mine: join(dir, 'mine.qmp'), theirs: join(dir, 'theirs.qmp') };
    const held: { tenants?: Tenants } = {};
    const mayChange = async () => await Promise.resolve(held.tenants?.beforeChange());
    const agent = opened.use(
      await TestAgent.start({ dir: join(dir, 'state'), qmp, allow: [dir], mayChange, looks: NO_LOOKS }),
    );
    const tenants = new Tenants({ dir, agent, qemus }, asked, await Authority.make(dir), opened.move(), held);
    await tenants.#serve();
    return tenants;
  }

  /** A client of this name. */
  async caller(way: GuardedWay, name: string): Promise<Caller> {
    const pair = await this.#sign(`spiffe://site/${name}`);
    const files = [pair.caFile, pair.privateKeyFile, pair.certificateFile].map(async (file) => await readFile(file));
    const [ca, key, certificate] = await Promise.all(files);
    const channel = credentials.createSsl(ca ?? null, key ?? null, certificate ?? null);
    const caller = new Caller(this.#addresses[way] ?? '', channel);
    this.#opened.defer(() => caller.close());
    return caller;
  }

  /** Jobs of `theirs`, by its own tenant: one has ended and left something behind, the other one runs. */
  async startTheirs(requestId: string): Promise<void> {
    const { theirs } = this.qemus;
    const ops: Call = { ...PATIENT, caller: 'spiffe://site/ops' };
    const copy = async (id: string) => {
      const disk = { domain: 'theirs', disk: 'vd0' };
      const request = copyTo(join(this.dir, `copy-${id}`), { disk, format: 'RAW', requestId: id });
      const started = await this.agent.agent.startCopy(request, ops);
      if ('etag' in started) throw new Error('a plan was not asked for');
      return started.job.accepted.job;
    };
    this.jobs.ended = await copy('first');
    theirs.failNext('blockdev-del', 'Node is in use');
    const job = { jobId: this.jobs.ended };
    const abort = { job, pivot: false, returnImmediately: false, force: true, pauseGuest: undefined, requestId: '' };
    await this.agent.agent.abort(abort, ops);
    this.jobs.running = await copy(requestId);
  }

  /** The questions to QEMUs, files and the agent since the last call of this. */
  asked(): { readonly questions: readonly string[]; readonly files: number } {
    const files = this.#files.calls - this.#filesBefore;
    this.#filesBefore = this.#files.calls;
    return { questions: this.#asked.splice(0), files };
  }
  #filesBefore = 0;

  async #sign(uri: string) {
    const { caFile } = this.#authority;
    return { ...(await this.#authority.sign(`certificate-${(this.#certificates += 1)}`, { uri })), caFile };
  }

  async #serve(): Promise<void> {
    const certificates = async (uri: string) => this.#opened.use(new Certificates(await this.#sign(uri), log));
    const listen = { host: '127.0.0.1', port: 0 };
    const open = async (jobs: BlockJobs, uri: string, gateways: readonly string[]) => {
      const options = { info: INFO, listen, certificates: await certificates(uri), gateways, log };
      const server = await serve(jobs, { ...options, onlyGateways: gateways.length > 0 });
      this.#opened.defer(async () => await server.drain(0));
      return `localhost:${server.address.split(':').at(-1)}`;
    };
    const { agent } = this.agent;
    this.#addresses['an agent'] = await open(new Guarded(agent, this.policy), 'spiffe://site/agent', []);
    const address = await open(agent, 'spiffe://site/agent', [GATEWAY]);
    const own = await certificates(GATEWAY);
    const counting: Observer = {
      during: async (doing, work) => {
        if (doing.does === 'ask') this.#asked.push(`${doing.host} ${doing.rpc}`);
        return await work();
      },
    };
    const connectTo = (host: Host) => connect(host, own, counting);
    // In a folder of its own: other changes there are not a reason to ask again.
    const path = join(this.dir, 'hosts', 'hosts.json');
    await mkdir(join(this.dir, 'hosts'));
    await writeFile(path, JSON.stringify({ hosts: { host1: { address, identity: 'spiffe://site/agent' } } }));
    const ask = async (host: Host) => {
      using remote = connectTo(host);
      const { items } = await remote.listDomains({ host: '', pageSize: 0, pageToken: '' }, PATIENT);
      const all = items.map(({ name, uuid }) => ({ id: domainId(uuid ?? '', name, host.name), name }));
      return this.hears ? all : [];
    };
    const directory = this.#opened.use(await StaticDirectory.open({ path, ask, askEveryMs: NEVER_MS, log }));
    await directory.ready();
    const fleet = this.#opened.use(new Fleet({ directory, connect: connectTo, watchersPerJob: 100 }));
    this.#addresses['a gateway'] = await open(new Guarded(fleet, this.policy), GATEWAY, []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}
