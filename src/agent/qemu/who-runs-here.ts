/**
 * The domains that run on this host: reported at each change, for the directory of a fleet. A domain that migrates away
 * belongs to this host until the other one has taken it: otherwise it would be unknown in between.
 */
import type { Logger } from 'pino';
import { guestStateOf } from '../../core/qemu/guest-state.ts';
import { inTime } from '../../lib/timer.ts';
import { machineHasEnded } from './graphs.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface Running {
  readonly name: string;
  readonly uuid: string | undefined;
}

export interface WhoRunsHereOptions {
  /** The domains that run here, or did and have not ended; not those that migrate in. `complete`: every QEMU is known. */
  readonly known: (domains: readonly Running[], options: { readonly complete: boolean }) => void;
  /** A domain was seen to go from "migrates in" to "runs". */
  readonly arrived: (domain: Running) => void;
  readonly logger: Logger;
}

/** A QEMU that hangs still runs here. */
const RUN_STATE_ANSWERS_MS = 2000;
/** Some changes of state have no event, so there is a regular look. */
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
        this.#options.logger.error({ err: error }, 'The domains of this host cannot be determined');
      }
      await this.#machines.changes.after(before, { timeoutMs: LOOK_AGAIN_MS, signal });
    }
  }

  async #look(): Promise<void> {
    const machines = this.#machines.all;
    const here = await Promise.all(machines.map(async (machine) => ((await this.#runs(machine)) ? [machine] : [])));
    for (const known of this.#seen.keys()) if (!machines.includes(known)) this.#seen.delete(known);
    // A socket without a listener, or another kind of socket, hides no domain.
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
    // A QEMU that does not answer keeps its last state for as long as its process lives.
    if (identity === undefined || state === undefined)
      return before?.hasRun === true && !(await machineHasEnded(machine));
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

/** The last known state of a VM. */
interface Seen {
  /** Another VM behind the same socket is another domain. */
  readonly process: string;
  /** It did more than migrate in. */
  readonly hasRun: boolean;
}
