/** The callers of one job: one starts it, one steers it, one watches all of it, and one ends it, each at random. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  EndPolicy,
  type Job,
  Job_State,
  JobEvent_Kind,
  OnNoSpace,
  OnReady,
  PauseGuest,
} from '../../generated/blockjob/v1/job.ts';
import { fromMs } from '../../src/client/durations.ts';
import { present } from '../support/checks.ts';
import type { PercentTraces } from '../support/observers/percent-traces.ts';
import type { Random } from '../support/random.ts';
import { byId } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';
import type { Destination } from './destination.ts';
import type { FormatTurns } from './format-turns.ts';
import { type Killer, refusalIn } from './killer.ts';
import type { LiveDisk } from './live-disk.ts';
import type { Plan } from './plan.ts';
import { type Verdict, WrongOutcome } from './wrong.ts';

/** A verdict, and the patience of the policy, take about ten seconds. */
const HELPED_MS = 15_000;

export interface CallersParts {
  readonly random: Random;
  readonly killer: Killer;
  readonly verdict: Verdict;
  readonly disk: LiveDisk;
  readonly turns: FormatTurns;
  readonly plan: Plan;
  readonly traces: PercentTraces;
}

export class Callers {
  /** The number of events of the job so far. */
  events = 0;
  /** Whether its end policy has helped it. */
  isHelped = false;
  readonly #random: Random;
  readonly #killer: Killer;
  readonly #verdict: Verdict;
  readonly #disk: LiveDisk;
  readonly #turns: FormatTurns;
  readonly #plan: Plan;
  readonly #traces: PercentTraces;

  constructor({ random, killer, verdict, disk, turns, plan, traces }: CallersParts) {
    this.#random = random;
    this.#killer = killer;
    this.#verdict = verdict;
    this.#disk = disk;
    this.#turns = turns;
    this.#plan = plan;
    this.#traces = traces;
  }

  /** Uses one request_id until a service answers. Returns the reason as text if it was refused. */
  async start(requestId: string, destination: Destination): Promise<Job | string> {
    const ask = async () =>
      await this.#killer.persist(async (service) => await this.#start(service, requestId, destination));
    const { what, format } = this.#plan;
    const started = await (what.includes('copy') && format === 'qcow2' ? this.#turns.formatting(ask) : ask());
    if (!('reason' in started)) return started;
    const hasRoom = this.#plan.overcommit || this.#plan.place !== 'tight';
    if (started.reason === 'SPACE_LOW' && hasRoom)
      throw new WrongOutcome(`refused in spite of space: ${started.message}`);
    return started.message;
  }

  async #start(service: Service, requestId: string, { request }: Destination): Promise<Job> {
    const { what, onReady, limit, overcommit, help } = this.#plan;
    const common = { disk: this.#disk.ref, requestId };
    switch (what) {
      case 'pull':
        return await service.rebase({ ...common, flags: [64], bandwidth: limit });
      case 'active commit':
      case 'commit': {
        const flags = [CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES];
        const active = what === 'commit' ? [] : [CommitFlag.COMMIT_FLAG_ACTIVE];
        const top = what === 'commit' ? `${this.#disk.ref.disk}[1]` : '';
        return await service.commit({ ...common, top, flags: [...flags, ...active], bandwidth: limit });
      }
      default:
        return await service.startCopy({
          ...common,
          destination: request,
          shallow: what === 'shallow copy',
          onReady,
          onNoSpace: OnNoSpace.ON_NO_SPACE_FAIL,
          overcommit,
          timeLimit: help?.timeLimitMs === undefined ? undefined : fromMs(help.timeLimitMs),
          endPolicy: help && EndPolicy.fromPartial(help.endPolicy),
          granularityBytes: 4096n,
          bandwidthBytesPerSecond: limit,
        });
    }
  }

  async steer(id: string): Promise<void> {
    const { paused, limit, help } = this.#plan;
    if (help?.isSlow === true) return await this.#killer.calm(async () => await this.#helped(id));
    await sleep(this.#random.below(400));
    if (paused) {
      await this.#killer.persist(async (service) => await service.pause(id));
      await sleep(this.#random.below(200));
      await this.#killer.persist(async (service) => await service.resume(id));
    }
    if (limit > 0n) await this.#killer.persist(async (service) => await service.setSpeed(id, 0n));
  }

  /** Its end policy takes a step, if it does not end: a verdict needs a service that lives for some seconds. */
  async #helped(id: string): Promise<void> {
    const untilMs = Date.now() + HELPED_MS;
    while (Date.now() < untilMs) {
      const job = await this.#killer.persist(async (service) => await service.getInfo(id));
      if ('reason' in job || isOver(job) || job.state !== Job_State.STATE_RUNNING) return;
      this.isHelped = job.guestThrottle !== undefined || (job.endPolicy?.steps.length ?? 0) > 0;
      if (this.isHelped) return;
      await sleep(200);
    }
  }

  /** Waits until the job is READY or over. Then several callers end it, until it is over. */
  async end(id: string): Promise<Job> {
    const { onReady, what, early, patienceMs } = this.#plan;
    const byItself = onReady !== OnReady.ON_READY_HOLD || what === 'pull' || what === 'commit';
    const impatientMs = Date.now() + patienceMs;
    for (;;) {
      const job = await this.#killer.persist(async (service) => await service.getInfo(id));
      if ('reason' in job) throw new WrongOutcome(`job ${id} is lost: ${job.message}`);
      if (isOver(job)) return job;
      const isReady = job.state === Job_State.STATE_READY;
      if (isReady) this.#killer.enters(this.#disk.id, 'READY');
      if (Date.now() > impatientMs) {
        this.#killer.enters(this.#disk.id, 'ENDING');
        await this.#killer.persist(
          async (service) => await service.abort({ job: byId(id), force: true, returnImmediately: true }),
        );
        await sleep(200);
      } else if ((isReady && !byItself) || (early && job.state === Job_State.STATE_RUNNING)) {
        await sleep(this.#random.below(300));
        this.#killer.enters(this.#disk.id, 'ENDING');
        const many = Array.from({ length: 1 + this.#random.below(3) }, async () => await this.#oneEnds(id));
        await Promise.all(many);
      } else await sleep(50);
    }
  }

  async #oneEnds(id: string): Promise<void> {
    const { early, staysWhereItIs } = this.#plan;
    await sleep(this.#random.below(30));
    const pivot = !early && !staysWhereItIs && this.#random.chance(0.7);
    const force = !pivot && this.#random.chance(0.3);
    const pauseGuest = this.#random.of([PauseGuest.PAUSE_GUEST_AUTO, PauseGuest.PAUSE_GUEST_ALWAYS]);
    await this.#killer.persist(
      async (service) => await service.abort({ job: byId(id), pivot, force, pauseGuest, returnImmediately: true }),
    );
  }

  /** Watches again after the last revision whenever the stream breaks: each revision once, in order, to the end. */
  async watch(id: string): Promise<void> {
    let last = 0;
    for (;;) {
      this.#verdict.check();
      const wrongIn = this.#traces.begin();
      try {
        for await (const { kind, revision, job } of this.#killer.service.watch(id, last)) {
          this.events += 1;
          const isEntry = kind !== JobEvent_Kind.KIND_PROGRESS && kind !== JobEvent_Kind.KIND_HEARTBEAT;
          if (Number(revision) !== (isEntry ? last + 1 : last)) {
            throw new WrongOutcome(`job ${id}: revision ${revision} follows ${last}`);
          }
          last = Number(revision);
          const wrong = wrongIn(present(job));
          if (wrong !== '') throw new WrongOutcome(wrong);
          if (isOver(present(job))) return;
          // Leaves in the middle, as some callers do.
          if (this.#random.chance(0.02)) break;
        }
      } catch (error) {
        if (error instanceof WrongOutcome || refusalIn(error) !== undefined) throw error;
        await sleep(20);
      }
    }
  }
}

function isOver({ state }: Job): boolean {
  return state >= Job_State.STATE_COMPLETED;
}
