/** Which domains run on this host: told whenever that changes, for the directory of a fleet. */
import type { Logger } from 'pino';
import type { GuestState } from '../core/block-jobs.ts';
import { inTime } from '../lib/in-time.ts';
import { isAlive } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface Running {
  readonly name: string;
  readonly uuid: string | undefined;
}

export interface WhoRunsHereOptions {
  /** All that run here now: neither those that migrate in, nor those that have migrated away. */
  readonly all: (domains: readonly Running[]) => void;
  /** One was seen to go from "migrates in" to "runs". */
  readonly arrived: (domain: Running) => void;
  readonly log: Logger;
}

/** A QEMU that hangs runs here all the same. */
const PATIENCE_MS = 2000;
/** Not every change of a state has an event: a look now and then. */
const LOOK_AGAIN_MS = 2000;

export class WhoRunsHere implements AsyncDisposable {
  readonly #machines: VirtualMachines;
  readonly #options: WhoRunsHereOptions;
  readonly #stop = new AbortController();
  readonly #states = new Map<VirtualMachine, GuestState>();
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
        this.#options.log.error({ err: error }, 'it cannot be said which domains run here');
      }
      await this.#machines.changes.after(before, { timeoutMs: LOOK_AGAIN_MS, signal });
    }
  }

  async #look(): Promise<void> {
    const machines = this.#machines.all;
    const here = await Promise.all(machines.map(async (machine) => ((await this.#runs(machine)) ? [machine] : [])));
    for (const known of this.#states.keys()) if (!machines.includes(known)) this.#states.delete(known);
    this.#options.all(here.flat().map(({ name, uuid }) => ({ name, uuid })));
  }

  async #runs(machine: VirtualMachine): Promise<boolean> {
    const before = this.#states.get(machine);
    if (machine.identity === undefined) return await wasRunning(machine, before);
    const state = await inTime(machine.guestState(), PATIENCE_MS);
    // It does not answer: it is what it was.
    if (state === undefined) return await wasRunning(machine, before);
    this.#states.set(machine, state);
    if (state === 'MIGRATING') return false;
    if (before === 'MIGRATING') this.#options.arrived({ name: machine.name, uuid: machine.uuid });
    return true;
  }
}

/** A QEMU that cannot be asked now is here for as long as its process lives, unless it was on its way. */
async function wasRunning({ lastProcess }: VirtualMachine, before: GuestState | undefined): Promise<boolean> {
  if (before === undefined || before === 'MIGRATING') return false;
  return lastProcess === undefined || (await isAlive(lastProcess));
}
