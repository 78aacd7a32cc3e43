/** A job from its start to its end, and the guest's writes meanwhile. */
import { Accept, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import type { Random } from '../support/random.ts';
import { byId, errorOf, type Refusal, refusalOf } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';
import type { Move } from './move.ts';
import type { Rename } from './renames.ts';
import type { Start } from './request.ts';
import type { Guest } from './vm.ts';
import { must, WrongOutcome } from './wrong.ts';

/** The reasons for which a graph, or a move of it, may be refused. */
const REASONS: ReadonlySet<string> = new Set([
  'IMAGE_UNSUITABLE',
  'SHALLOW_INTO_RAW',
  'RELATIVE_UNSUPPORTED',
  'FORMAT_UNKNOWN',
  'CHAIN_UNUSABLE',
  'SIZE_MISMATCH',
  'EXPORT_SIZE_DIFFERS',
  'NAME_TOO_LONG',
  // In a mount namespace of QEMU.
  'PATH_DIFFERS_IN_QEMU',
  'FILE_NOT_KNOWN',
  'DESTINATION_MISSING',
]);
/** A device does not grow, as the base of a commit may have to: QEMU refuses it before the start. */
const CANNOT_GROW = 'committing: Invalid argument';
/**
 * An image that shows the same as a disk of almost only zeroes need not have more data itself: then it has to be
 * compared.
 */
const HARDLY_ANYTHING = 'empty, and has no backing file';
const ACCEPTS: Readonly<Record<string, Accept>> = {
  LOSES_INTERNAL_SNAPSHOTS: Accept.ACCEPT_LOSES_INTERNAL_SNAPSHOTS,
  SHARED_WRITER: Accept.ACCEPT_SHARED_WRITER,
};
const { STATE_COMPLETED: COMPLETED, STATE_CANCELLED: CANCELLED, STATE_FAILED: FAILED } = Job_State;
const { STATE_UNRESOLVED: UNRESOLVED } = Job_State;
const ENDS: ReadonlySet<Job_State> = new Set([COMPLETED, CANCELLED, FAILED, UNRESOLVED]);

/**
 * QEMU opens a node again that is read-only while nobody writes (auto-read-only), by its name: also the node that a
 * pivot leaves.
 */
const NOT_OPENED = /Operation not permitted|Could not (?:re)?open|No such file/;

export interface Lost {
  /** The images whose snapshots are lost. */
  readonly snapshotsOf: ReadonlySet<string>;
}

export type Ended =
  | { readonly job: Job; readonly lost: Lost; readonly renamed: Rename | undefined }
  | { readonly refusal: Refusal };

/** Renames something now; undefined: nothing. */
export type Meddler = () => Promise<Rename | undefined>;

export class Steering {
  readonly #service: Service;
  readonly #guest: Guest;
  readonly #random: Random;
  readonly #meddle: Meddler | undefined;
  #renamed: Rename | undefined;

  constructor(service: Service, guest: Guest, random: Random, meddle?: Meddler) {
    this.#meddle = meddle;
    this.#service = service;
    this.#guest = guest;
    this.#random = random;
  }

  async run(move: Move, start: Start, expectUntouched: () => Promise<void>): Promise<Ended> {
    const accept: Accept[] = [];
    for (;;) {
      const started = await start(this.#service, accept).catch(refusalOf);
      if (!('reason' in started)) {
        await this.#steer(move, started);
        const job = await this.#over(started);
        this.#expectEnd(move, job);
        return { job, lost: { snapshotsOf: snapshotsLost(job) }, renamed: this.#renamed };
      }
      await expectUntouched();
      const loss = started.metadata['accept'] ?? '';
      const one = ACCEPTS[loss];
      if (started.reason !== 'LOSS_NOT_ACCEPTED' || one === undefined) {
        must(mayRefuse(started), `refused with ${started.reason}: ${started.message}`);
        return { refusal: started };
      }
      must(!accept.includes(one), `${loss} is accepted, and still refused`);
      accept.push(one);
    }
  }

  async #steer(move: Move, { id }: Job): Promise<void> {
    const isEarly = move.ending === 'early';
    if (move.isSlow || isEarly) {
      if (this.#random.chance(0.7)) await this.#guest.write();
      if (this.#random.chance(this.#meddle === undefined ? 0 : 0.6)) await this.#rename(id);
      if (isEarly) return await this.#abort(id, false, this.#random.chance(0.3));
      await this.#service.setSpeed(id, 0n).catch(refusalOf);
    }
    if (move.ending === 'done' || move.ending === 'pivots itself' || move.ending === 'finishes itself') return;
    await this.#service.until(id, 'STATE_READY');
    await this.#guest.write();
    if (this.#meddle !== undefined && this.#renamed === undefined) await this.#rename(id);
    await this.#abort(id, move.ending === 'pivot', move.ending === 'force');
  }

  /** If a job has ended by then, the order is not known: then the test acts as if nothing had been renamed. */
  async #rename(id: string): Promise<void> {
    this.#renamed = await this.#meddle?.();
    const { state } = await this.#service.getInfo(id);
    if (ENDS.has(state)) await this.#renamed?.undo();
  }

  /** The job continues after the name is restored, or is given up. */
  async #afterRefusal(id: string): Promise<void> {
    if (this.#random.chance(0.5)) {
      await this.#renamed?.undo();
      return await this.#abort(id, true, false);
    }
    await this.#abort(id, false, this.#random.chance(0.5));
  }

  /** It may have ended by itself meanwhile. */
  async #abort(id: string, pivot: boolean, force: boolean): Promise<void> {
    const job = await this.#service.abort({ job: byId(id), pivot, force }).catch(refusalOf);
    if ('reason' in job && job.reason === 'DESTINATION_MOVED' && pivot && this.#renamed?.isThere === true) {
      must(this.#renamed.matters, `not to be refused: ${job.message}`);
      return await this.#afterRefusal(id);
    }
    // The error of a failed job.
    if ('reason' in job && this.#renamed !== undefined && NOT_OPENED.test(job.message)) return;
    if ('reason' in job) must(['JOB_ENDED', 'JOB_ENDING'].includes(job.reason), `not ended: ${job.message}`);
  }

  async #over({ id }: Job): Promise<Job> {
    for await (const _event of this.#service.watch(id));
    return await this.#service.getInfo(id);
  }

  /** Nothing has gone wrong: so the job is done, or was cancelled as planned. */
  #expectEnd(move: Move, job: Job): void {
    const mayEnd = ['early', 'finish', 'force'].includes(move.ending) ? [COMPLETED, CANCELLED] : [COMPLETED];
    if (mayEnd.some((state) => state === job.state)) return;
    if (this.#renamed?.matters === true && mayFail(job)) return;
    if (this.#renamed !== undefined && job.state === FAILED && NOT_OPENED.test(errorOf(job)?.message ?? '')) return;
    throw new WrongOutcome(`${stateOf(job)}: ${errorOf(job)?.message}`);
  }
}

/** A failed job has the right reason, and no false claim; or it was given up. */
/** An acceptance applies to every image; the outcome says to which. */
function snapshotsLost({ outcome }: Job): ReadonlySet<string> {
  const told = (outcome?.evidence ?? []).map(({ text }) =>
    /^LOSES_INTERNAL_SNAPSHOTS was accepted: (.*) has internal snapshots \(/s.exec(text),
  );
  return new Set(told.flatMap((found) => found?.[1] ?? []));
}

function mayFail(job: Job): boolean {
  return job.state === CANCELLED || errorOf(job)?.reason === 'DESTINATION_MOVED' || job.state === UNRESOLVED;
}

function mayRefuse({ reason, message }: Refusal): boolean {
  return REASONS.has(reason) || [CANNOT_GROW, HARDLY_ANYTHING].some((words) => message.includes(words));
}

/** Whether the chain is now the intended one of the move. */
export function isDone({ ending }: Move, { state }: Job): boolean {
  return state === COMPLETED && !['finish', 'finishes itself', 'force'].includes(ending);
}

export function stateOf({ state }: Job): string {
  return (
    Object.entries(Job_State)
      .find(([, value]) => value === state)?.[0]
      .replace('STATE_', '') ?? ''
  );
}
