/**
 * Rounds of one move each: the owner of a VM's configuration (examples/node/fenced-move.js) and the service are killed
 * at random, while strangers ask for the pivot without a record, or with an old one. Throws WrongOutcome.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { Running } from '../examples/running.ts';
import { journalEntries, present } from '../support/checks.ts';
import { ConfigurationFile } from '../support/configuration.ts';
import type { Random } from '../support/random.ts';
import { makeChain, type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { AS_COMMONJS } from '../support/service/bundle.ts';
import { byId, refusalOf } from '../support/service/caller.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';
import { WrongOutcome } from './wrong.ts';

const SIZE_BYTES = 2 << 20;
/** A copy takes up to two seconds, and a service about one to start: the kills come at all instants of a move. */
const SPEEDS = ['0', String(4 << 20), String(1 << 20)] as const;
const LONGEST_DELAY_MS = 3000;
/** The service is down, or the call was lost with it. */
const AWAY = /UNAVAILABLE|CANCELLED|closed|shut down/;

interface World {
  readonly dir: string;
  readonly qemu: Qemu;
  readonly configuration: ConfigurationFile;
  readonly script: string;
}

/** One move, as it is seen from outside. */
class Move {
  owner: Running;
  job = '';
  isCancelled = false;
  readonly source: string;
  readonly destination: string;
  readonly #start: () => Running;

  constructor(source: string, destination: string, start: () => Running) {
    this.source = source;
    this.destination = destination;
    this.#start = start;
    this.owner = start();
  }

  look(): void {
    const line = this.owner.lines.find((one) => one.startsWith('job '));
    this.job ||= line?.slice('job '.length) ?? '';
  }

  /** An owner that is killed after its end begins another move, which fails: the destination is there. */
  get isSecond(): boolean {
    return this.owner.lines.some((line) => line.includes('DESTINATION_EXISTS'));
  }

  async startAgain(): Promise<number | null> {
    this.owner = this.#start();
    return await this.owner.ended;
  }

  async killOwner(): Promise<void> {
    this.owner[Symbol.dispose]();
    await this.owner.ended;
    this.look();
    this.owner = this.#start();
  }
}

export class GateRounds implements AsyncDisposable {
  readonly tally = { kills: 0, refusals: 0, moved: 0, rounds: 0 };
  readonly #random: Random;
  readonly #world: World;
  readonly #opened: AsyncDisposableStack;
  #service: Service;
  #oldToken = 'none';

  private constructor(random: Random, world: World, service: Service, opened: AsyncDisposableStack) {
    this.#random = random;
    this.#world = world;
    this.#service = service;
    this.#opened = opened;
  }

  static async start(random: Random): Promise<GateRounds> {
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir());
    const script = join(dir, 'owner.mjs');
    await build({
      entryPoints: [join(REPOSITORY, 'examples/node/fenced-move.js')],
      outfile: script,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node24',
      banner: { js: AS_COMMONJS },
      alias: { 'blockjobd-client': join(REPOSITORY, 'src/client/index.ts') },
    });
    const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: SIZE_BYTES });
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    const qemu = opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
    const first = String((await qemu.admin.block('vd0')).inserted?.file);
    const configuration = opened.use(new ConfigurationFile(join(dir, 'vms.sqlite'), first));
    const world = { dir, qemu, configuration, script };
    return new GateRounds(random, world, await serve(world), opened.move());
  }

  async round(): Promise<void> {
    const { dir, script } = this.#world;
    this.tally.rounds += 1;
    const destination = join(dir, `round-${this.tally.rounds}.qcow2`);
    const file = join(dir, 'vms.sqlite');
    const args = [`unix:${dir}/api.sock`, file, 'vm1', 'vd0', destination, this.#random.of(SPEEDS)];
    const start = () => new Running({ program: process.execPath, args: [script] }, args);
    const move = new Move(await this.#image(), destination, start);
    using _last = { [Symbol.dispose]: () => move.owner[Symbol.dispose]() };
    const stop = new AbortController();
    const slowMs = this.#random.chance(0.5) ? this.#random.below(LONGEST_DELAY_MS) : 0;
    const meanwhile = Promise.all([this.#meddle(move, stop.signal), this.#slowDown(move, slowMs, stop.signal)]);
    // Its error is thrown at the end of the round.
    meanwhile.catch(() => undefined);
    for (let kills = this.#random.below(4); kills > 0; kills -= 1) await this.#kill(move);
    move.look();
    if (this.#random.chance(0.2) && move.job !== '') await this.#cancel(move);
    let code = await move.owner.ended;
    move.look();
    // The answer to its second start was lost: it is not sure, and has to be started again.
    if (move.isSecond && this.#world.configuration.moves > 0) code = await move.startAgain();
    stop.abort();
    await meanwhile;
    await this.#judge(move, code);
  }

  async #kill(move: Move): Promise<void> {
    await sleep(this.#random.below(LONGEST_DELAY_MS));
    this.tally.kills += 1;
    if (this.#random.chance(0.5)) return await move.killOwner();
    await this.#service.kill();
    await sleep(this.#random.below(500));
    this.#service = await serve(this.#world);
  }

  /** The owner cannot write: the gate stays open for a while. */
  async #slowDown(move: Move, ms: number, signal: AbortSignal): Promise<void> {
    while (move.job === '' && !signal.aborted) {
      await sleep(10);
      move.look();
    }
    if (ms === 0 || signal.aborted) return;
    using _lock = this.#world.configuration.lock();
    await sleep(ms);
  }

  /** A stranger ends the job without a pivot: the owner has to set the configuration back. */
  async #cancel(move: Move): Promise<void> {
    try {
      await this.#service.abort({ job: byId(move.job) });
      move.isCancelled = true;
    } catch (error) {
      // It pivots, or has ended.
      refusalOf(error);
    }
  }

  async #meddle(move: Move, signal: AbortSignal): Promise<void> {
    for (let word = 0; !signal.aborted; word += 1) {
      move.look();
      if (move.job !== '') await this.#ask(move.job, word % 2 === 0 ? undefined : { token: this.#oldToken });
      // The guest first: the database names the new path before the pivot, and keeps it afterwards.
      const [guest, recorded] = [await this.#image(), this.#world.configuration.path];
      if (guest === move.destination && recorded !== guest) {
        throw new WrongOutcome(`the guest is on ${guest}, and the database names ${String(recorded)}`);
      }
      await sleep(this.#random.below(200));
    }
  }

  async #ask(job: string, record: { token: string } | undefined): Promise<void> {
    const request = { job: byId(job), pivot: true, returnImmediately: true, ...(record && { record }) };
    try {
      const { pivotGate } = await this.#service.abort(request);
      // A pivot that is recorded may be asked for by everybody, but not with an old record.
      if (record !== undefined) throw new WrongOutcome(`job ${job} has taken the record of another job`);
      if (pivotGate?.recordTime === undefined) throw new WrongOutcome(`job ${job} pivots without a record`);
    } catch (error) {
      if (error instanceof WrongOutcome) throw error;
      if (AWAY.test(String(error))) return;
      if (refusalOf(error).reason.startsWith('CONFIG_')) this.tally.refusals += 1;
    }
  }

  async #judge(move: Move, code: number | null): Promise<void> {
    const { dir, configuration } = this.#world;
    const { owner, source, destination, isCancelled, isSecond } = move;
    const [now, job] = [await this.#image(), present(move.job)];
    const { revision, pivotGate, outcome } = await this.#service.getInfo(job);
    const entries = await journalEntries(join(dir, 'state'), job, revision);
    const of = (kind: string) => entries.filter(({ entry }) => entry === kind);
    const pivots = of('pivot-requested');
    const tokens = [...of('config-recorded'), ...pivots].flatMap((one) => ('token' in one ? one.token : []));
    const back = outcome?.setConfigBackTo ?? '';
    const wrong = Object.entries({
      'the database names another image than the guest has': configuration.path !== now,
      'the owner has an unfinished move': configuration.moves > 0,
      'the owner says moved, and it is not': code === 0 && now !== destination,
      'the move is lost': now !== destination && !(now === source && isCancelled),
      'the owner has failed': code !== 0 && !isCancelled && !isSecond,
      'it has pivoted more than once': pivots.length > 1,
      'the gate was opened more than once': of('gate-opened').length > 1,
      'it has pivoted without a request': now === destination && pivots.length === 0,
      'it has pivoted without its record': pivots.length > 0 && !tokens.includes(pivotGate?.token),
      'a record of another attempt is in the journal': tokens.some((token) => token !== pivotGate?.token),
      'the outcome names the wrong path to set back': back !== '' && (now !== source || back !== source),
    }).flatMap(([what, is]) => (is ? what : []));
    if (wrong.length > 0) {
      const said = owner.lines.join('; ');
      throw new WrongOutcome(`round ${this.tally.rounds}, job ${job}: ${wrong.join('; ')}; the owner said: ${said}`);
    }
    if (now === destination) this.tally.moved += 1;
    this.#oldToken = pivotGate?.token ?? this.#oldToken;
    await rm(now === destination ? source : destination, { force: true });
  }

  async #image(): Promise<string> {
    return String((await this.#world.qemu.admin.block('vd0')).inserted?.file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service.kill();
    await this.#opened.disposeAsync();
  }
}

async function serve({ dir, qemu }: World): Promise<Service> {
  return await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir] });
}
