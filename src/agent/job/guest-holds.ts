/** The holds of all guests of this host: the present ones, and those that an earlier service has left. */
import type { Logger } from 'pino';
import { both, FREE, type Hold, isFree } from '../../core/job/guest-hold.ts';
import { inTime } from '../../lib/timer.ts';
import { sight } from '../host/sight.ts';
import type { EndedJob } from '../journal/ended-job.ts';
import {
  type HeldGuest,
  type HeldVm,
  isNamedAfter,
  makeHolds,
  nameOf,
  readHolds,
  removeHold,
  writeHold,
} from '../journal/hold-file.ts';
import type { JobLog } from '../journal/job-log.ts';
import { intoState } from '../journal/state-folder.ts';
import type { HoldRecord } from '../journal/written-hold.ts';
import { isUnreachable } from '../qemu/failures.ts';
import { compareProcesses, processPresence } from '../qemu/qemu-process.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { GuestHold } from './guest-hold.ts';

/** The guest of a QEMU that does not answer cannot be resumed, and is not waited for longer than this. */
const LEAVE_MS = 2000;

/** The known facts of one QEMU. */
interface KnownHold {
  /** Undefined for a file that cannot be read. */
  vm: HeldVm | undefined;
  hold: Hold;
  /** The files and journals that report it. */
  files: readonly string[];
}

export class GuestHolds {
  readonly #folder: string;
  readonly #logger: Logger;
  #boot: string | undefined;
  #known: readonly KnownHold[] = [];
  readonly #holds = new Map<VirtualMachine, GuestHold>();

  constructor(folder: string, logger: Logger) {
    this.#folder = folder;
    this.#logger = logger;
  }

  /** Reads the holds that an earlier service has left: from their own files, or from journals if it wrote none. */
  async find(logs: readonly (JobLog | EndedJob)[]): Promise<void> {
    const { bootId: boot } = await sight();
    const files = await readHolds(this.#folder);
    const isOfThisBoot = ({ held }: { held: HeldGuest | undefined }) =>
      held?.boot === undefined || boot === undefined || held.boot === boot;
    const left = (files ?? []).filter(isOfThisBoot).map(({ name, held }): KnownHold => {
      // An unreadable file still proves that there was a hold.
      const hold = held === undefined ? { ...FREE, owesCont: true } : both(FREE, held);
      return { vm: held?.vm, hold, files: [name] };
    });
    const told = new Set(left.flatMap(({ hold }) => hold.holders.map(({ job }) => job)));
    // The journal of an ended job shows it for ever: it counts once.
    const inJournals = logs
      .filter(({ job, ended }) => job.guestHeld && (!ended || files === undefined) && !told.has(job.accepted.job))
      .map((log) => heldIn(log, boot));
    if (files === undefined) {
      await makeHolds(this.#folder, inJournals).catch((error: unknown) => {
        this.#logger.error({ err: error, folder: this.#folder }, 'The folder of holds cannot be made');
      });
    }
    const more = inJournals.map(
      (held): KnownHold => ({ vm: held.vm, hold: both(FREE, held), files: [nameOf(held.vm)] }),
    );
    this.#boot = boot;
    this.#known = [...left, ...more];
  }

  of(machine: VirtualMachine): GuestHold {
    const there = this.#holds.get(machine);
    if (there !== undefined) return there;
    const record = () => this.#recordOf(machine);
    const hold = new GuestHold({ machine, record, logger: this.#logger.child({ domain: machine.name }) });
    this.#holds.set(machine, hold);
    return hold;
  }

  /** Why the guest of this VM is held for a job; undefined if it is not. */
  becauseOf(machine: VirtualMachine, job: string): string | undefined {
    return this.#recordOf(machine).hold.holders.find((holder) => holder.job === job)?.because;
  }

  /** Called when a VM can be asked: ended jobs let go of its guest. Never rejects: a VM that is lost is found again. */
  async found(machine: VirtualMachine, isKept: (job: string) => boolean): Promise<void> {
    try {
      await this.of(machine).keepOnly(isKept);
      await this.#forgetGone(machine);
    } catch (error) {
      if (isUnreachable(error)) this.#logger.info({ err: error }, 'QEMU went away before its guest was resumed');
      else this.#logger.error({ err: error, domain: machine.name }, 'The hold of a guest cannot be handled');
    }
  }

  /** One record per process, however many files and journals report it. */
  #recordOf(machine: VirtualMachine): HoldRecord {
    const { name: domain, uuid, socketPath: socket, lastProcess: process } = machine;
    const vm = { domain, uuid, socket, process };
    const [first, ...more] = this.#known.filter((known) => isOf(known, machine));
    const known = first ?? { vm, hold: FREE, files: [] };
    if (first === undefined) this.#known = [...this.#known, known];
    for (const other of more) {
      known.hold = both(known.hold, other.hold);
      known.files = [...known.files, ...other.files];
    }
    if (more.length > 0) this.#known = this.#known.filter((one) => !more.includes(one));
    const isProved = compareProcesses(known.vm?.process, process) === 'SAME';
    const save = async (hold: Hold) => await this.#save(known, vm, hold);
    return {
      isSame: isProved,
      save,
      get hold() {
        return known.hold;
      },
      set hold(hold) {
        known.hold = hold;
      },
    };
  }

  async #save(known: KnownHold, vm: HeldVm, hold: Hold): Promise<void> {
    const name = nameOf(vm);
    await intoState(this.#folder, async () => {
      if (!isFree(hold)) {
        await writeHold(this.#folder, { version: 1, boot: this.#boot, vm, ...hold });
        known.files = [...new Set([...known.files, name])];
      }
      for (const file of known.files) {
        if (file === name && !isFree(hold)) continue;
        await removeHold(this.#folder, file);
        known.files = known.files.filter((one) => one !== file);
      }
      known.vm = vm;
    });
  }

  /** Another process has the socket of a held one, which has ended. */
  async #forgetGone(machine: VirtualMachine): Promise<void> {
    for (const known of this.#known) {
      const { socket, process } = known.vm ?? {};
      if (isOf(known, machine) || socket !== machine.socketPath || process === undefined) continue;
      if ((await processPresence(process)) !== 'ENDED') continue;
      this.#known = this.#known.filter((one) => one !== known);
      for (const file of known.files) await removeHold(this.#folder, file);
    }
  }

  /** No guest stays held, because nobody enforces the limit of a hold any more. */
  async close(): Promise<void> {
    await Promise.all([...this.#holds.values()].map(async (hold) => await inTime(hold.close(), LEAVE_MS)));
  }
}

function heldIn({ job: { accepted, createTime: since } }: JobLog | EndedJob, boot: string | undefined): HeldGuest {
  return {
    version: 1,
    boot,
    vm: { domain: accepted.domain, uuid: accepted.domainUuid, socket: undefined, process: accepted.process },
    holders: [{ job: accepted.job, because: 'its journal says so', since }],
    owesCont: true,
    pausedJobs: [],
  };
}

/** The process decides; if /proc does not show it, the socket and the UUID. */
function isOf({ vm, files }: KnownHold, machine: VirtualMachine): boolean {
  if (vm === undefined) return files.some((name) => isNamedAfter(name, machine.socketPath));
  const { process: was, socket, uuid, domain } = vm;
  const now = machine.lastProcess;
  if (was !== undefined && now !== undefined) {
    const which = compareProcesses(was, now);
    if (which !== 'UNKNOWN') return which === 'SAME';
    // It has another number in another pid namespace; no two begin at one socket within one clock tick.
    return was.startTime === now.startTime && socket === machine.socketPath;
  }
  if (uuid !== undefined && machine.uuid !== undefined && uuid !== machine.uuid) return false;
  return socket === undefined ? machine.answersTo(uuid ?? domain) : socket === machine.socketPath;
}
