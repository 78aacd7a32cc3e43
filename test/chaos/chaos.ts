/**
 * A guest that writes as fast as it can, a service that is killed again and again, callers who all want something
 * else, and others who meddle with QEMU. After each round what the service says must be true: block by block.
 *
 *   round:  snapshot? ─► start (retried with one request_id) ─► steer ─► end, wanted by several at once ─► check
 *   killer: ···✂·······✂······✂···✂·····✂····✂·········✂···✂·······✂·····✂····✂·····✂···✂···
 *   watcher: every revision of every job, once and in order, through all of that
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  DestinationContent,
  ImageFormat,
  type Job,
  Job_State,
  JobEvent_Type,
  OnNoSpace,
  OnReady,
  type Outcome,
  PauseGuest,
} from '../../generated/blockjob/v1/job.ts';
import { byId, type Refusal, refusalOf } from '../support/caller.ts';
import { complaints, graphOf, present } from '../support/checks.ts';
import { GuestVm } from '../support/guest-vm.ts';
import { AckedByTime, momentOf } from '../support/moments.ts';
import { Admin, type ImageFormat as Format, isRunning, testDir, within } from '../support/qemu.ts';
import { Random } from '../support/random.ts';
import { Service, type ServiceOptions } from '../support/service.ts';
import { canMount, smallFileSystem } from '../support/small-file-system.ts';

const DOMAIN = 'chaos';
const DISK = { domain: DOMAIN, disk: 'disk1' };
/** One stream that only writes: then each moment of the disk can be told from every other. */
const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.batch=4';
const SLOW = 4n << 20n;
/** No copy of the disk has room there: a guest that was pivoted to it would run into that wall itself. */
const TIGHT_MIB = 1;
const ROUND_MS = 90_000;

const { DESTINATION_CONTENT_COMPLETE: COMPLETE } = DestinationContent;

/** When the service was killed, as far as a caller could tell. */
export const PHASES = ['STARTING', 'RUNNING', 'READY', 'ENDING', 'ENDED'] as const;
export type Phase = (typeof PHASES)[number];

export interface Tally {
  readonly kills: Map<Phase, number>;
  rounds: number;
  events: number;
  readonly ends: Map<string, number>;
}

export class Chaos implements AsyncDisposable {
  readonly tally: Tally = { kills: new Map(), rounds: 0, events: 0, ends: new Map() };
  readonly #random: Random;
  readonly #say: (line: string) => void;
  readonly #vm: GuestVm;
  readonly #admin: Admin;
  readonly #folder: string;
  readonly #tight: string | undefined;
  readonly #options: ServiceOptions;
  readonly #open: AsyncDisposableStack;
  #service: Service;
  #phase: Phase = 'ENDED';
  #restarting: Promise<void> = Promise.resolve();
  /** What went wrong beside the round. */
  #wrong: unknown;

  private constructor(parts: Parts, service: Service, open: AsyncDisposableStack) {
    this.#random = parts.random;
    this.#say = parts.say;
    this.#vm = parts.vm;
    this.#admin = parts.admin;
    this.#options = parts.options;
    this.#folder = parts.options.dir;
    this.#tight = parts.tight;
    this.#service = service;
    this.#open = open;
  }

  static async start(seed: number, say: (line: string) => void): Promise<Chaos> {
    await using open = new AsyncDisposableStack();
    const { path: folder } = open.use(await testDir('bj-chaos-'));
    const vm = open.use(await GuestVm.start({ disks: ['id=1,chain=2,size=16M'], append: LOAD, name: DOMAIN }));
    const admin = open.adopt(await Admin.connect(connect(vm.checkerQmpPath), () => ''), (one) => one.close());
    const tight = canMount() ? open.use(await smallFileSystem(folder, TIGHT_MIB)).path : undefined;
    const options = { dir: folder, qmp: { [DOMAIN]: vm.qmpPath }, allow: [folder, vm.dir] };
    const service = await Service.start(options);
    await service.domainUp(DOMAIN);
    return new Chaos({ random: new Random(seed), say, vm, admin, options, tight }, service, open.move());
  }

  get kills(): number {
    return [...this.tally.kills.values()].reduce((sum, count) => sum + count, 0);
  }

  /** One job from its start to the proof of what it has done. */
  async round(): Promise<void> {
    const name = `r${this.tally.rounds}`;
    const random = this.#random;
    if (random.chance(0.5)) await this.#snapshot(name);
    await this.#vm.work(1, 32);
    using acked = new AckedByTime(this.#vm, 1);
    const killing = new AbortController();
    const killer = this.#killNowAndThen(killing.signal);
    try {
      const plan = await this.#plan(name);
      const job = await within(ROUND_MS, `round ${name}: ${plan.what}`, this.#live(name, plan));
      const to = this.#vm.acknowledged(1);
      await this.#prove(name, plan, job, { acked, to });
    } finally {
      killing.abort();
      await killer;
    }
    if (this.#wrong !== undefined) throw this.#wrong;
    this.tally.rounds += 1;
  }

  async #plan(name: string): Promise<Plan> {
    const { files } = await this.#disk();
    const kinds: [Kind, ...Kind[]] = ['copy', 'copy', 'shallow copy', 'pull', 'active commit', 'commit'];
    const kind = this.#random.of(kinds);
    const raw = kind === 'copy' && this.#random.chance(0.4);
    const enough = { copy: 1, 'shallow copy': 2, pull: 2, 'active commit': 2, commit: 3 }[kind];
    const what = files.length >= enough ? kind : 'copy';
    const onReady = this.#random.of([
      OnReady.ON_READY_HOLD,
      OnReady.ON_READY_HOLD,
      OnReady.ON_READY_PIVOT,
      OnReady.ON_READY_FINISH,
    ]);
    const format: Format = raw ? 'raw' : 'qcow2';
    const isTight = this.#tight !== undefined && what === 'copy' && this.#random.chance(0.2);
    const path = join(isTight ? this.#tight : this.#folder, `${name}.${format}`);
    const limit = this.#random.chance(0.5) ? SLOW : 0n;
    return { what, format, path, onReady: what.includes('copy') ? onReady : OnReady.ON_READY_HOLD, limit };
  }

  /** Undefined: the start was refused, and has left nothing. */
  async #live(name: string, plan: Plan): Promise<Job | undefined> {
    this.#phase = 'STARTING';
    if (this.#random.chance(0.5)) this.#killIn(this.#random.below(80));
    const started = await this.#persist(async (service) => await this.#start(service, name, plan));
    if ('reason' in started) {
      this.#say(`${name} ${plan.what}: refused: ${started.message}`);
      return undefined;
    }
    this.#phase = 'RUNNING';
    const watching = this.#watch(started.id);
    watching.catch(() => undefined);
    const meddling = this.#meddle(started.id);
    await this.#steer(started.id, plan);
    const ended = await this.#end(started.id, plan);
    await meddling;
    await watching;
    this.#phase = 'ENDED';
    return ended;
  }

  async #start(service: Service, name: string, { what, path, format, onReady, limit }: Plan): Promise<Job> {
    const common = { disk: DISK, requestId: name };
    switch (what) {
      case 'pull':
        return await service.rebase({ ...common, flags: [64], bandwidth: limit });
      case 'active commit':
      case 'commit': {
        const flags = [CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES];
        const active = what === 'commit' ? [] : [CommitFlag.COMMIT_FLAG_ACTIVE];
        const top = what === 'commit' ? `${DISK.disk}[1]` : '';
        return await service.commit({ ...common, top, flags: [...flags, ...active], bandwidth: limit });
      }
      default:
        return await service.startCopy({
          ...common,
          destination: {
            target: { $case: 'file', value: path },
            format: format === 'raw' ? ImageFormat.IMAGE_FORMAT_RAW : ImageFormat.IMAGE_FORMAT_QCOW2,
          },
          shallow: what === 'shallow copy',
          onReady,
          onNoSpace: OnNoSpace.ON_NO_SPACE_FAIL,
          granularityBytes: 4096n,
          bandwidthBytesPerSecond: limit,
        });
    }
  }

  async #steer(id: string, { limit }: Plan): Promise<void> {
    await sleep(this.#random.below(400));
    if (this.#random.chance(0.2)) {
      await this.#persist(async (service) => await service.pause(id));
      await sleep(this.#random.below(200));
      await this.#persist(async (service) => await service.resume(id));
    }
    if (limit > 0n) await this.#persist(async (service) => await service.setSpeed(id, 0n));
  }

  /** Waits until it is READY or over, and lets several callers end it as each of them likes, until it is over. */
  async #end(id: string, { onReady, what }: Plan): Promise<Job> {
    const early = onReady === OnReady.ON_READY_HOLD && this.#random.chance(0.15);
    for (;;) {
      const job = await this.#persist(async (service) => await service.getInfo(id));
      if ('reason' in job) throw new Error(`job ${id} is lost: ${job.message}`);
      if (isOver(job)) return job;
      if (job.state === Job_State.STATE_READY) this.#phase = 'READY';
      const byItself = onReady !== OnReady.ON_READY_HOLD || what === 'pull' || what === 'commit';
      if ((job.state === Job_State.STATE_READY && !byItself) || (early && job.state === Job_State.STATE_RUNNING)) {
        await sleep(this.#random.below(300));
        this.#phase = 'ENDING';
        if (this.#random.chance(0.5)) this.#killIn(this.#random.below(60));
        await Promise.all(
          Array.from({ length: 1 + this.#random.below(3) }, async () => await this.#oneEnds(id, early)),
        );
      } else await sleep(50);
    }
  }

  async #oneEnds(id: string, early: boolean): Promise<void> {
    await sleep(this.#random.below(30));
    const pivot = !early && this.#random.chance(0.7);
    const force = !pivot && this.#random.chance(0.3);
    const pauseGuest = this.#random.of([PauseGuest.PAUSE_GUEST_AUTO, PauseGuest.PAUSE_GUEST_ALWAYS]);
    await this.#persist(
      async (service) => await service.abort({ job: byId(id), pivot, force, pauseGuest, async: true }),
    );
  }

  /** What other clients of QEMU, and its host, may do to it. */
  async #meddle(id: string): Promise<void> {
    const kind = this.#random.below(14);
    await sleep(this.#random.below(600));
    if (kind === 0) await quietly(this.#admin.execute('block-job-cancel', { device: id }));
    if (kind === 1) await quietly(this.#admin.execute('job-cancel', { id }));
    if (kind === 2) {
      process.kill(this.#vm.pid, 'SIGSTOP');
      await sleep(this.#random.below(1500));
      process.kill(this.#vm.pid, 'SIGCONT');
    }
    if (kind === 3) {
      await quietly(this.#admin.execute('job-pause', { id }));
      await sleep(this.#random.below(300));
      await quietly(this.#admin.execute('job-resume', { id }));
    }
    if (kind === 4) await quietly(this.#admin.execute('block-job-set-speed', { device: id, speed: 0 }));
    if (kind === 5) await quietly(this.#admin.execute('job-complete', { id }));
    if (kind === 6) await quietly(this.#admin.execute('job-dismiss', { id }));
    if (kind === 7 || kind === 8) {
      await this.#admin.execute('stop');
      await sleep(this.#random.below(300));
      // Also where the service has continued it meanwhile, which it cannot know to be wrong.
      await this.#admin.execute('cont');
    }
  }

  // ---- the service, and its deaths ----------------------------------------------------------------------

  async #killNowAndThen(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // On a machine that is busy with other things a service that only ever lives for moments would never get anywhere.
      if (this.#random.chance(0.5)) await this.#service.domainUp(DOMAIN).catch(() => undefined);
      await sleep(50 + this.#random.below(400), undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await this.#kill();
    }
    await this.#restarting;
  }

  #killIn(ms: number): void {
    void sleep(ms).then(async () => await this.#kill());
  }

  /** SIGKILL, and a new service on the same journals; one at a time. */
  async #kill(): Promise<void> {
    this.#restarting = this.#restarting.then(async () => {
      if (this.#wrong !== undefined) return;
      try {
        this.#noComplaints();
        this.tally.kills.set(this.#phase, (this.tally.kills.get(this.#phase) ?? 0) + 1);
        await this.#service.kill();
        this.#service = await Service.start(this.#options);
      } catch (error) {
        this.#wrong = error;
      }
    });
    await this.#restarting;
  }

  /** Asks again until some service answers; a typed refusal is an answer. */
  async #persist<T>(ask: (service: Service) => Promise<T>): Promise<T | Refusal> {
    for (;;) {
      if (this.#wrong !== undefined) throw this.#wrong;
      try {
        return await ask(this.#service);
      } catch (error) {
        const refusal = refusalIn(error);
        if (refusal !== undefined) return refusal;
        await sleep(20);
      }
    }
  }

  /** Comes back with the last revision whenever the stream breaks: each one once, in order, to the end. */
  async #watch(id: string): Promise<void> {
    let last = 0;
    for (;;) {
      if (this.#wrong !== undefined) throw this.#wrong;
      try {
        for await (const { type, revision, job } of this.#service.watch(id, last)) {
          this.tally.events += 1;
          const isEntry = type !== JobEvent_Type.TYPE_PROGRESS && type !== JobEvent_Type.TYPE_HEARTBEAT;
          if (Number(revision) !== (isEntry ? last + 1 : last)) {
            throw new WrongOutcome(`job ${id}: revision ${revision} follows ${last}`);
          }
          last = Number(revision);
          if (present(job).state >= Job_State.STATE_COMPLETED) return;
          // Leaves in the middle, as callers do.
          if (this.#random.chance(0.02)) break;
        }
      } catch (error) {
        if (error instanceof WrongOutcome) {
          this.#wrong = error;
          throw error;
        }
        if (refusalIn(error) !== undefined) throw error;
        await sleep(20);
      }
    }
  }

  // ---- the proof -----------------------------------------------------------------------------------------

  /** Killed before it had written down that it made the file, the service cannot know it as its own: it tells of it. */
  async #nothingUntold(name: string, path: string): Promise<void> {
    if (!existsSync(path)) return;
    const left = present(await this.#persist(async (service) => await service.listLeftovers()));
    const isTold = Array.isArray(left) && left.some((one) => one.name === path);
    if (!isTold) throw new WrongOutcome(`${name}: a refused start left ${path}, and nothing tells of it`);
    await rm(path);
  }

  async #prove(
    name: string,
    plan: Plan,
    job: Job | undefined,
    { acked, to }: { acked: AckedByTime; to: number },
  ): Promise<void> {
    const state =
      job === undefined ? 'refused' : Object.entries(Job_State).find(([, value]) => value === job.state)?.[0];
    const sign = `${plan.what}: ${state?.replace('STATE_', '')}`;
    this.tally.ends.set(sign, (this.tally.ends.get(sign) ?? 0) + 1);
    this.#noComplaints();
    if (!isRunning(this.#vm.pid)) throw new WrongOutcome(`${name}: QEMU has died`);
    await this.#settled(job);
    await this.#vm.work(1, 16);
    await this.#vm.pause();
    const guestIs = await this.#disk();
    if (job === undefined) await this.#nothingUntold(name, plan.path);
    else await this.#outcome(name, plan, present(job.outcome), guestIs.path);
    await this.#intact(`${name}: the guest's disk`, guestIs);
    if (job?.outcome?.destinationContent === COMPLETE && job.outcome.asOf !== undefined) {
      // The base of a commit that was not pivoted is below the guest's disk, and shows the moment as well.
      const { base } = await this.#disk();
      const from = acked.at(job.outcome.asOf);
      // QEMU has open what is the base, and what is below a shallow copy.
      const live = plan.what === 'active commit' || plan.what === 'shallow copy';
      await momentOf(this.#vm, 1, plan.what === 'active commit' ? base : plan, { from, to, live });
    }
    const safe = job?.outcome?.safeToDelete ?? [];
    for (const { path: file } of safe) await rm(file);
    const leftovers = present(await this.#persist(async (service) => await service.listLeftovers()));
    if (!Array.isArray(leftovers)) throw new WrongOutcome(`${name}: leftovers cannot be listed`);
    const ids = leftovers.map(({ id }) => id);
    if (ids.length > 0) await this.#persist(async (service) => await service.reclaim(ids, true));
    if (safe.length + ids.length > 0) await this.#intact(`${name}: after the deletions, the guest's disk`, guestIs);
    await this.#vm.resume();
    await this.#vm.work(1, 16);
    this.#say(`${name} ${sign}, ${this.kills} kills, ${safe.length} deleted, on ${guestIs.path}`);
  }

  /** No job, no filter; of our nodes only those that the guest needs; and the guest runs. */
  async #settled(job: Job | undefined): Promise<void> {
    const { jobs, nodes } = await graphOf(this.#admin);
    if (jobs.length > 0) throw new WrongOutcome(`QEMU still has ${jobs.join()}`);
    const filters = nodes.filter((node) => / (mirror_top|commit_top|copy-on-read) /.test(node));
    if (filters.length > 0) throw new WrongOutcome(`QEMU still has ${filters.join()}`);
    const { files } = await this.#disk();
    const open = nodes.filter((node) => / file /.test(node)).map((node) => node.split(' ')[2] ?? '');
    const unused = open.filter((file) => !files.includes(file));
    if (unused.length > 0) throw new WrongOutcome(`${job?.id}: QEMU still has open ${unused.join()}`);
    const { status } = await this.#admin.execute<{ status: string }>('query-status');
    if (status !== 'running') throw new WrongOutcome(`${job?.id}: the guest is ${status}`);
  }

  async #outcome(name: string, { path: copy }: Plan, outcome: Outcome, guestIsOn: string): Promise<void> {
    const { guestWritesTo, destinationContent, destinationRemoved, safeToDelete } = outcome;
    if (guestWritesTo !== '' && guestWritesTo !== guestIsOn) {
      throw new WrongOutcome(`${name}: the guest is said to write to ${guestWritesTo}, and is on ${guestIsOn}`);
    }
    if (destinationRemoved && existsSync(copy)) throw new WrongOutcome(`${name}: ${copy} is not removed`);
    if (destinationContent === COMPLETE && outcome.asOf === undefined && guestWritesTo !== guestIsOn) {
      throw new WrongOutcome(`${name}: a live disk on which the guest is not`);
    }
    const { files } = await this.#disk();
    const held = safeToDelete.filter(({ path }) => files.includes(path));
    if (held.length > 0) throw new WrongOutcome(`${name}: said to be safe to delete, and in use: ${held[0]?.path}`);
  }

  /** Every block that the guest was told is on disk. */
  async #intact(what: string, { path: image, format }: { path: string; format: Format }): Promise<void> {
    const { ok, text } = await this.#vm.check(1, { image, format, live: true });
    if (!ok) throw new WrongOutcome(`${what}, ${image}, has lost blocks: ${text}`);
  }

  /** The chain that the guest's device is on, its active image first, as QEMU's own graph has it. */
  async #disk(): Promise<{ path: string; format: Format; base: Image; files: readonly string[] }> {
    const { nodes, edges } = await graphOf(this.#admin);
    const driverAndFile = new Map(nodes.map((node) => [node.split(' ')[0], node.split(' ').slice(1)] as const));
    const below = (node: string, edge: string) => {
      const start = `block-driver ${node} --${edge}--> block-driver `;
      return edges.find((one) => one.startsWith(start))?.slice(start.length);
    };
    const images: Image[] = [];
    const top = present((await this.#admin.block('disk1')).inserted)['node-name'];
    for (let node: string | undefined = top; node !== undefined; node = below(node, 'backing')) {
      const path = present(driverAndFile.get(below(node, 'file') ?? node))[1] ?? '';
      images.push({ path, format: driverAndFile.get(node)?.[0] === 'raw' ? 'raw' : 'qcow2' });
    }
    return { ...present(images[0]), base: present(images.at(-1)), files: images.map(({ path }) => path) };
  }

  /** Somebody takes a snapshot between two jobs, so that there is a chain. */
  async #snapshot(name: string): Promise<void> {
    const { files } = await this.#disk();
    if (files.length >= 4) return;
    const { inserted } = await this.#admin.block('disk1');
    await this.#admin.execute('blockdev-snapshot-sync', {
      'node-name': present(inserted)['node-name'],
      'snapshot-file': join(this.#folder, `${name}-snap.qcow2`),
      'snapshot-node-name': `${name}-snap`,
      format: 'qcow2',
    });
  }

  /** For a person who wants to know why it failed. */
  async report(): Promise<string> {
    const jobs = await this.#admin.execute('query-jobs').catch(String);
    const blockJobs = await this.#admin.execute('query-block-jobs').catch(String);
    const status = await this.#admin.execute('query-status').catch(String);
    const folder = join(this.#folder, 'state', 'jobs');
    const names = await readdir(folder);
    const times = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).mtimeMs));
    const newest = names[times.indexOf(Math.max(...times))] ?? '';
    const journal = await readFile(join(folder, newest), 'utf8').catch(String);
    const log = this.#service.log.split('\n').slice(-30).join('\n');
    return [JSON.stringify([jobs, blockJobs, status]), newest, journal, log].join('\n');
  }

  #noComplaints(): void {
    const [first] = complaints(this.#service);
    if (first !== undefined) throw new WrongOutcome(`the service complains: ${first}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#restarting;
    await this.#service.stop();
    await this.#open.disposeAsync();
  }
}

/** Undefined: there is no service at the moment, or it has not found its QEMU yet. */
function refusalIn(error: unknown): Refusal | undefined {
  if (error instanceof Error && error.message === 'Channel has been shut down') return undefined;
  const refusal = refusalOf(error);
  // Without a reason it comes from gRPC itself.
  return ['', 'QEMU_UNREACHABLE', 'DOMAIN_NOT_FOUND'].includes(refusal.reason) ? undefined : refusal;
}

function isOver({ state }: Job): boolean {
  return state >= Job_State.STATE_COMPLETED;
}

/** What QEMU says to a meddler is not our business. */
async function quietly(work: Promise<unknown>): Promise<void> {
  await work.catch(() => undefined);
}

type Kind = 'copy' | 'shallow copy' | 'pull' | 'active commit' | 'commit';

interface Image {
  readonly path: string;
  readonly format: Format;
}

interface Parts {
  readonly random: Random;
  readonly say: (line: string) => void;
  readonly vm: GuestVm;
  readonly admin: Admin;
  readonly options: ServiceOptions;
  readonly tight: string | undefined;
}

interface Plan {
  readonly what: Kind;
  readonly format: Format;
  readonly path: string;
  readonly onReady: OnReady;
  readonly limit: bigint;
}

/** The service has said what is not true, or lost something. */
export class WrongOutcome extends Error {
  override readonly name = 'WrongOutcome';
}
