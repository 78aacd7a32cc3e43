/** The QEMUs of this host: those named on the command line, and the sockets that come and go in a folder. */
import { type FSWatcher, watch } from 'node:fs';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import type { Call } from '../../core/block-jobs.ts';
import { failure } from '../../core/errors.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import type { QemuProcess } from '../../core/job/qemu-identity.ts';
import { may, notThere } from '../../core/rights.ts';
import { invalidField } from '../../core/rules/rule.ts';
import { Lane } from '../../lib/lane.ts';
import type { Observer } from '../../lib/observer.ts';
import { Wake } from '../../lib/wake.ts';
import { Budget } from '../../qmp/budget.ts';
import { tellNamesakes } from './namesakes.ts';
import { compareProcesses, processPresence } from './qemu-process.ts';
import { SocketFolder } from './socket-folder.ts';
import { VirtualMachine } from './virtual-machine.ts';

export interface VirtualMachinesOptions {
  /** A folder of QMP sockets, one per VM; undefined if there is none. */
  readonly folder: string | undefined;
  /** The names in the folder to look at; undefined for all. */
  readonly pattern?: string | undefined;
  readonly named: readonly { readonly name: string; readonly socketPath: string }[];
  readonly logger: Logger;
  readonly observer?: Observer;
}

/** inotify reports at once; the regular look is for file systems without it. */
const RESCAN_MS = 2000;

/** The facts by which the VM of a job is found. */
type Sought = Pick<Accepted, 'job' | 'domain' | 'domainUuid' | 'process'>;

export class VirtualMachines {
  readonly #options: VirtualMachinesOptions;
  readonly #machines = new Map<string, VirtualMachine>();
  /** Path → the file at the last look at the folder. */
  readonly #files = new Map<string, string>();
  readonly #folder: SocketFolder | undefined;
  readonly #scans = new Lane();
  #isScanWaiting = false;
  readonly #budget = new Budget();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reconnects = 0;
  #onUp: ((machine: VirtualMachine) => void) | undefined;
  /** Notified at every event of any VM, and when VMs come and go. */
  readonly changes = new Wake();
  /** Notified when a VM can be asked: only then is its identity known. */
  readonly arrivals = new Wake();

  constructor(options: VirtualMachinesOptions) {
    this.#options = options;
    const { folder, ...rest } = options;
    this.#folder = folder === undefined ? undefined : new SocketFolder({ ...rest, folder });
  }

  /** Begins connecting. A folder that does not exist yet is waited for. */
  async start(): Promise<void> {
    for (const { name, socketPath } of this.#options.named) this.#add(resolve(socketPath), name);
    const folder = this.#folder;
    if (folder === undefined) return;
    await this.#scan(folder);
    this.#watchFolder(folder);
    this.#timer = setInterval(() => this.#rescan(folder), RESCAN_MS);
  }

  #watchFolder(folder: SocketFolder): void {
    const onChange = () => {
      folder.changed();
      this.#rescan(folder);
    };
    try {
      this.#watcher = watch(folder.path, onChange);
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch (error) {
      this.#options.logger.info(
        { folder: folder.path, error: String(error) },
        'The folder of QMP sockets cannot be watched; it is checked regularly instead',
      );
    }
  }

  /** One scan that has not begun serves all who ask: each of many VMs that start changes the folder. */
  #rescan(folder: SocketFolder): void {
    if (this.#isScanWaiting) return;
    this.#isScanWaiting = true;
    this.#scan(folder).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, 'The folder of QMP sockets cannot be read');
    });
  }

  async #scan(folder: SocketFolder): Promise<void> {
    await this.#scans.run(async () => {
      this.#isScanWaiting = false;
      const sockets = await folder.sockets();
      const inside = `${resolve(folder.path)}/`;
      for (const [path, file] of sockets) {
        const known = this.#files.get(path);
        this.#files.set(path, file);
        if (!this.#machines.has(path)) this.#add(path, undefined);
        else if (known !== file) this.#machines.get(path)?.neighbour.tryAgain();
      }
      for (const machine of this.#machines.values()) {
        const inFolder = machine.socketPath.startsWith(inside);
        // The socket file of a healthy QEMU may be removed: its connection decides, and then its process.
        if (inFolder && !sockets.has(machine.socketPath) && machine.identity === undefined && !(await isUp(machine))) {
          this.#machines.delete(machine.socketPath);
          this.#files.delete(machine.socketPath);
          this.changes.notify();
          await machine.close();
        }
      }
    });
  }

  #add(socketPath: string, givenName: string | undefined): void {
    const onUp = () => {
      if ((machine.identity?.generation ?? 1) > 1) this.#reconnects += 1;
      tellNamesakes(machine, this.all, this.#options.logger);
      this.#onUp?.(machine);
      this.arrivals.notify();
    };
    const onChange = () => this.changes.notify();
    const { logger, observer } = this.#options;
    const given = { socketPath, givenName, logger, observer, budget: this.#budget };
    const machine: VirtualMachine = new VirtualMachine({ ...given, onUp, onChange });
    this.#machines.set(socketPath, machine);
    machine.start();
  }

  /** Calls back for each VM that can be asked, now and whenever one comes (back). */
  onUp(listener: (machine: VirtualMachine) => void): void {
    this.#onUp = listener;
    for (const machine of this.all) if (machine.identity !== undefined) listener(machine);
  }

  /** How often a lost VM came back. */
  get reconnects(): number {
    return this.#reconnects;
  }

  get all(): readonly VirtualMachine[] {
    return [...this.#machines.values()];
  }

  /** Real and possible VMs: without the other sockets of the folder. */
  get domains(): readonly VirtualMachine[] {
    return this.all.filter(({ neighbour }) => !neighbour.isOne);
  }

  /**
   * The VM of a name or UUID. If there are several (a migrating guest has two QEMUs here for a while), one that can be
   * asked comes first; if two can be asked, the name is ambiguous.
   */
  find(domain: string, call: Call): VirtualMachine | undefined {
    return theOne(this.#named(domain, call));
  }

  /** A VM that the caller may not read does not exist for it. */
  #named(domain: string, call: Call): readonly VirtualMachine[] {
    return this.domains.filter((machine) => machine.answersTo(domain) && may(call, 'read', machine.name));
  }

  /**
   * The VM that runs a job: one that was seen with the job, whatever /proc says, because the ids of jobs are random.
   * Otherwise one with the UUID, or the name if there is none, which may be it. Undefined if there is none, or several.
   */
  of({ job, domain, domainUuid, process }: Sought): VirtualMachine | undefined {
    const having = this.all.filter((machine) => machine.has(job) && isOfUuid(machine, domainUuid));
    // Callers know the ids of jobs: if several VMs claim one, the process at its begin decides.
    const likely = (one: VirtualMachine) => one.answersTo(domainUuid ?? domain) && mayRun(one, process);
    return having.find((one) => isProcess(one, process)) ?? having[0] ?? theOne(this.all.filter(likely));
  }

  /** Whether this VM may run the job. It does not if another one is known to, or its process is another one. */
  mayBeOf(machine: VirtualMachine, accepted: Sought): boolean {
    if (machine.has(accepted.job)) return true;
    const { domain, domainUuid, process } = accepted;
    const isElsewhere = this.of(accepted)?.has(accepted.job) === true;
    return !isElsewhere && machine.answersTo(domainUuid ?? domain) && mayRun(machine, process);
  }

  /** Throws DOMAIN_NOT_FOUND, or FIELD_INVALID for a name of several VMs. */
  get(domain: string, call: Call): VirtualMachine {
    const named = this.#named(domain, call);
    const found = theOne(named);
    if (found !== undefined) return found;
    if (named.length > 0)
      throw invalidField('domain', `"${domain}" names ${named.length} domains; give the UUID of one`);
    return notThere(failure('DOMAIN_NOT_FOUND', { domain }), call, this.nameOf(domain));
  }

  /** For any caller: for our own log. */
  nameOf(domain: string): string | undefined {
    return this.domains.find((machine) => machine.answersTo(domain))?.name;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#watcher?.close();
    await this.#scans.run(async () => {
      await Promise.all(this.all.map(async (machine) => await machine.close()));
    });
  }
}

/** Whether its process exists. If that is not visible, a VM without socket and connection counts as gone. */
async function isUp({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess !== undefined && (await processPresence(lastProcess)) === 'UP';
}

/** Whether it is this process, as far as is known. */
function mayRun({ identity }: VirtualMachine, process: QemuProcess | undefined): boolean {
  return compareProcesses(process, identity?.facts?.process) !== 'OTHER';
}

/** Whether it is known to be this process. */
function isProcess({ identity }: VirtualMachine, process: QemuProcess | undefined): boolean {
  return compareProcesses(process, identity?.facts?.process) === 'SAME';
}

function isOfUuid({ uuid }: VirtualMachine, wanted: string | undefined): boolean {
  return uuid === undefined || wanted === undefined || uuid.toLowerCase() === wanted.toLowerCase();
}

function theOne(found: readonly VirtualMachine[]): VirtualMachine | undefined {
  const up = found.filter((machine) => machine.identity !== undefined);
  return up.length > 1 ? undefined : (up[0] ?? found[0]);
}
