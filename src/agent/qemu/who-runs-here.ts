/**
 * Which domains run on this host: told whenever that changes, for the directory of a fleet. One that migrates away is
 * this host's until the other one has taken it: in between it would be nobody's, and be called unknown.
 */
import type { Logger } from 'pino';
import { guestStateOf } from '../../core/qemu/guest-state.ts';
import { inTime } from '../../lib/in-time.ts';
import { processPresence } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface Running {
  readonly name: string;
  readonly uuid: string | undefined;
}

export interface WhoRunsHereOptions {
  /**
   * Those that run here now, or have run here and not ended yet; not those that migrate in. `complete`: there is no
   * QEMU of which it is not known yet who it is.
   */
  readonly known: (domains: readonly Running[], options: { readonly complete: boolean }) => void;
  /** One was seen to go from "migrates in" to "runs". */
  readonly arrived: (domain: Running) => void;
  readonly logger: Logger;
}

/** A QEMU that hangs runs here all the same. */
const RUN_STATE_ANSWERS_MS = 2000;
/** Not every change of a state has an event: a look now and then. */
const LOOK_AGAIN_MS = 2000;

export class WhoRunsHere implements AsyncDisposable {
  readonly #machines: VirtualMachines;
  readonly #options: WhoRunsHereOptions;
  readonly #stop = new AbortController();
  readonly #seen = new Map<VirtualMachine, Seen>();
  readonly #running: Promise<void>;

  constructor(machines: VirtualMachines, options: WhoRunsHereOptions) {
    this.#machines = machines;
    this.#options = options;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const before = this.#machines.changes.now;
      try {
        await this.#look();
      } catch (error) {
        this.#options.logger.error({ err: error }, 'it cannot be said which domains run here');
      }
      await this.#machines.changes.after(before, { timeoutMs: LOOK_AGAIN_MS, signal });
    }
  }

  async #look(): Promise<void> {
    const machines = this.#machines.all;
    const here = await Promise.all(machines.map(async (machine) => ((await this.#runs(machine)) ? [machine] : [])));
    for (const known of this.#seen.keys()) if (!machines.includes(known)) this.#seen.delete(known);
    // A socket on which nobody listens, or something else, hides nobody.
    const complete = machines.every(
      (machine) => this.#seen.has(machine) || machine.nobodyListens || machine.neighbour.isOne,
    );
    this.#options.known(
      here.flat().map(({ name, uuid }) => ({ name, uuid })),
      { complete },
    );
  }

  async #runs(machine: VirtualMachine): Promise<boolean> {
    const before = this.#seen.get(machine);
    const { identity } = machine;
    const runState = identity && (await inTime(machine.runState(), RUN_STATE_ANSWERS_MS));
    const state = runState === undefined ? undefined : guestStateOf(runState);
    // A QEMU that does not answer is what it was, for as long as its process lives.
    if (identity === undefined || state === undefined) return before?.hasRun === true && (await mayLive(machine));
    const { facts, generation } = identity;
    const process =
      facts === undefined ? `connection ${generation}` : `${facts.process.pid} ${facts.process.startTime}`;
    const same = before?.process === process ? before : undefined;
    const hasRun = same?.hasRun === true || state !== 'MIGRATING';
    this.#seen.set(machine, { process, hasRun });
    if (same?.hasRun === false && hasRun) this.#options.arrived({ name: machine.name, uuid: machine.uuid });
    return hasRun;
  }
}

/** What was last seen of a VM. */
interface Seen {
  /** Another one behind the same socket is another VM. */
  readonly process: string;
  /** It did more than to migrate in. */
  readonly hasRun: boolean;
}

async function mayLive({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess === undefined || (await processPresence(lastProcess)) !== 'ENDED';
}
