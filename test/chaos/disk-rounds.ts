/**
 * One disk's rounds, one after the other, beside those of the other disks:
 *
 *   snapshot? ─► start (retried with one request_id) ─► steer, meddle, trouble ─► end, wanted by several ─► proof
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually } from '../support/checks.ts';
import type { PercentTraces } from '../support/observers/percent-traces.ts';
import type { Random } from '../support/random.ts';
import type { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { AckedByTime } from '../support/real-qemu/moments.ts';
import { type Admin, within } from '../support/real-qemu/qemu.ts';
import { Callers } from './callers.ts';
import { type Destination, nbdServer, newFile } from './destination.ts';
import type { FormatTurns } from './format-turns.ts';
import type { Killer } from './killer.ts';
import type { LiveDisk } from './live-disk.ts';
import type { Meddler } from './meddler.ts';
import { type Plan, planOf } from './plan.ts';
import { Proof } from './proof.ts';
import { BOUND_MS, type Waits } from './waits.ts';
import { type Verdict, WrongOutcome } from './wrong.ts';

export const DISK_MIB = 16;
const MIB = 1 << 20;
/** The limit of a round; usually it needs much less. */
const ROUND_MS = 150_000;
const LONGEST_CHAIN = 4;
/** A service that lives long enough to lift a limit. */
const LIFTED_MS = 30_000;

export interface Tally {
  rounds: number;
  events: number;
  /** The number of jobs that their end policy has helped. */
  helped: number;
  readonly traces: PercentTraces;
  /** The number of ends by kind, place and trouble. */
  readonly ends: Map<string, number>;
  /** The names of filters of mirrors that QEMU itself can no longer close: the image below them changes. */
  readonly leaks: Set<string>;
}

export interface DiskRoundsParts {
  readonly random: Random;
  readonly vm: GuestVm;
  readonly admin: Admin;
  readonly killer: Killer;
  readonly meddler: Meddler;
  readonly verdict: Verdict;
  readonly waits: Waits;
  readonly disk: LiveDisk;
  readonly turns: FormatTurns;
  readonly tally: Tally;
  readonly say: (line: string) => void;
  /** A folder on a file system that is too small for a copy. */
  readonly tight: string | undefined;
}

export class DiskRounds implements AsyncDisposable {
  readonly #parts: DiskRoundsParts;
  readonly #proof: Proof;
  /** The server that the guest's disk is on, if any. */
  #standing: Destination | undefined;
  #count = 0;
  /** For a person who wants to know what was going on. */
  #now = '';

  constructor(parts: DiskRoundsParts) {
    this.#parts = parts;
    this.#proof = new Proof(parts);
  }

  /** The decisions of the current round. */
  get now(): string {
    return this.#now;
  }

  /** One job from its start to the proof of what it has done. */
  async round(): Promise<void> {
    const { random, vm, disk, killer, waits, meddler } = this.#parts;
    const name = `d${disk.id}r${this.#count}`;
    this.#count += 1;
    using acked = new AckedByTime(vm, disk.id);
    const { images } = await disk.chain();
    const isOnNbd = this.#standing !== undefined;
    if (!isOnNbd && images.length < LONGEST_CHAIN && random.chance(0.5)) await disk.snapshot(name);
    await disk.work(acked, 32);
    const plan = planOf(random, {
      images: (await disk.chain()).images.length,
      isOnNbd,
      bus: disk.bus,
      canBeTight: this.#parts.tight !== undefined,
    });
    this.#now = `${name} ${JSON.stringify(plan, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))}`;
    const destination = await this.#destination(name, plan);
    const job = await within(ROUND_MS, `the round ${this.#now}`, this.#live(name, plan, destination));
    killer.enters(disk.id, 'ENDED');
    await meddler.expectRunning(name);
    await this.#unlimited(name);
    const to = acked.sequence;
    await disk.work(acked, 16);
    for (const wait of acked.waits(BOUND_MS)) waits.check(`${name}: disk ${disk.id} waited`, wait);
    await disk.rest(acked);
    const gone = await this.#proof.of({ name, what: plan.what, destination, job, acked, to });
    await this.#leave(destination);
    await disk.goOn();
    this.#note(plan, job, `${gone} gone`);
  }

  /** If QEMU did not answer in the end, the limit is taken away as soon as it does. */
  async #unlimited(name: string): Promise<void> {
    const { admin, disk } = this.#parts;
    let found: unknown;
    const isFree = async () => {
      const { inserted } = await admin.block(disk.ref.disk);
      found = { limit: inserted?.bps_wr, group: inserted?.group };
      return inserted?.bps_wr === 0 && inserted.group === undefined ? true : undefined;
    };
    await eventually(`${name}: nothing limits the guest`, isFree, LIFTED_MS).catch(() => {
      throw new WrongOutcome(`${name}: the guest is still limited: ${JSON.stringify(found)}`);
    });
  }

  async #destination(name: string, { place, format }: Plan): Promise<Destination> {
    const { disk, tight } = this.#parts;
    if (place === 'nbd') {
      const server = await nbdServer(join(disk.folder, `${name}-nbd`), DISK_MIB * MIB);
      disk.serve(server.name, server.image);
      return server;
    }
    return newFile(place === 'tight' && tight !== undefined ? tight : disk.folder, name, format);
  }

  /** Undefined if the start was refused and has left nothing. */
  async #live(name: string, plan: Plan, destination: Destination): Promise<Job | undefined> {
    const { disk, killer, tally, meddler, say } = this.#parts;
    const callers = new Callers({ ...this.#parts, plan, traces: tally.traces });
    const over = new AbortController();
    const trouble = this.#trouble(plan, destination, over.signal);
    try {
      killer.enters(disk.id, 'STARTING');
      const started = await callers.start(name, destination);
      if (typeof started === 'string') {
        say(`${name} ${plan.what}: refused: ${started}`);
        return undefined;
      }
      killer.enters(disk.id, 'RUNNING');
      const steered = async () => {
        await callers.steer(started.id);
        return await callers.end(started.id);
      };
      const [ended] = await Promise.all([
        steered().finally(() => over.abort()),
        callers.watch(started.id),
        meddler.meddle(started.id, plan.meddling),
      ]);
      tally.events += callers.events;
      if (callers.isHelped) tally.helped += 1;
      return ended;
    } finally {
      over.abort();
      await trouble;
    }
  }

  /** A service that lives must give up a hanging server within a limit. */
  async #trouble({ trouble }: Plan, destination: Destination, over: AbortSignal): Promise<void> {
    if (trouble === undefined) return;
    const { killer, meddler, disk, waits } = this.#parts;
    await sleep(trouble.afterMs, undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) return;
    const hang = async () => {
      const fromMs = Date.now();
      await destination.begin(trouble.what);
      if (!over.aborted) await new Promise((resolve) => over.addEventListener('abort', resolve, { once: true }));
      destination.end();
      const toMs = Date.now();
      // The connection of the guest's own disk is never cut.
      const { images } = await disk.chain();
      if (images[0].path === destination.name) waits.others.add({ fromMs, toMs });
    };
    await killer.calm(async () => await meddler.withoutPauses(hang));
  }

  /** The server of the guest's disk stays, and the earlier one ends. */
  async #leave(destination: Destination): Promise<void> {
    const { images } = await this.#parts.disk.chain();
    const isOn = images[0].path === destination.name && destination.isNbd;
    if (!isOn) await destination[Symbol.asyncDispose]();
    if (isOn || this.#standing === undefined || images[0].path === this.#standing.name) {
      this.#standing ??= isOn ? destination : undefined;
      return;
    }
    await this.#standing[Symbol.asyncDispose]();
    this.#standing = undefined;
  }

  #note({ what, place, trouble }: Plan, job: Job | undefined, more: string): void {
    const { tally, say, killer } = this.#parts;
    const named = Object.entries(Job_State).find(([, value]) => value === job?.state);
    const state = (named?.[0] ?? 'refused').replace('STATE_', '');
    const sign = [what, ...(place === 'file' ? [] : [place]), ...(trouble === undefined ? [] : [trouble.what])].join(
      ', ',
    );
    const end = `${sign}: ${state}`;
    tally.ends.set(end, (tally.ends.get(end) ?? 0) + 1);
    tally.rounds += 1;
    say(`${this.#now}: ${state}, ${more}, ${killer.kills} kills`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#standing?.[Symbol.asyncDispose]();
  }
}
