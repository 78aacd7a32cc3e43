/** Which QEMUs run here: those named on the command line, and the sockets that come and go in a folder. */
import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import type { Call } from '../../core/block-jobs.ts';
import { failure } from '../../core/errors.ts';
import type { Accepted, QemuProcess } from '../../core/job/journal-entry.ts';
import { fits } from '../../core/pattern.ts';
import { may, notThere } from '../../core/rights.ts';
import { invalidField } from '../../core/rules/rule.ts';
import { Lane } from '../../lib/lane.ts';
import type { Observer } from '../../lib/observer.ts';
import { Wake } from '../../lib/wake.ts';
import { Budget } from '../../qmp/budget.ts';
import { tellNamesakes } from './namesakes.ts';
import { compareProcesses, processPresence } from './qemu-process.ts';
import { VirtualMachine } from './virtual-machine.ts';

export interface VirtualMachinesOptions {
  /** A folder whose sockets are QMP monitors, one a VM; undefined: none. */
  readonly folder: string | undefined;
  /** Which names in the folder are looked at; undefined: all. */
  readonly pattern?: string | undefined;
  readonly named: readonly { readonly name: string; readonly socketPath: string }[];
  readonly logger: Logger;
  readonly observer?: Observer;
}

/** inotify tells at once; the look now and then is for file systems where it does not tell. */
const RESCAN_MS = 2000;

/** By what the VM of a job is found. */
type Sought = Pick<Accepted, 'job' | 'domain' | 'domainUuid' | 'process'>;

export class VirtualMachines {
  readonly #options: VirtualMachinesOptions;
  readonly #machines = new Map<string, VirtualMachine>();
  /** Path → which file it was when the folder was looked at last. */
  readonly #files = new Map<string, string>();
  readonly #scans = new Lane();
  readonly #budget = new Budget();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reconnects = 0;
  #onUp: ((machine: VirtualMachine) => void) | undefined;
  /** Notified at every event of any VM, and when VMs come and go. */
  readonly changes = new Wake();
  /** Notified when a VM can be asked: only then is it known which one it is. */
  readonly arrivals = new Wake();

  constructor(options: VirtualMachinesOptions) {
    this.#options = options;
  }

  /** Begins connecting. A folder that is not there yet is waited for. */
  async start(): Promise<void> {
    for (const { name, socketPath } of this.#options.named) this.#add(resolve(socketPath), name);
    if (this.#options.folder === undefined) return;
    await this.#scan(this.#options.folder);
    this.#watchFolder(this.#options.folder);
    this.#timer = setInterval(() => this.#rescan(), RESCAN_MS);
  }

  #watchFolder(folder: string): void {
    try {
      this.#watcher = watch(folder, () => this.#rescan());
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch (error) {
      this.#options.logger.info(
        { folder, error: String(error) },
        'the folder cannot be watched; looking at it now and then',
      );
    }
  }

  #rescan(): void {
    if (this.#options.folder === undefined) return;
    this.#scan(this.#options.folder).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, 'the folder of QMP sockets cannot be read');
    });
  }

  async #scan(folder: string): Promise<void> {
    await this.#scans.run(async () => {
      const sockets = await this.#socketsIn(folder);
      for (const [path, file] of sockets) {
        const known = this.#files.get(path);
        this.#files.set(path, file);
        if (!this.#machines.has(path)) this.#add(path, undefined);
        else if (known !== file) this.#machines.get(path)?.neighbour.tryAgain();
      }
      for (const machine of this.#machines.values()) {
        const inFolder = machine.socketPath.startsWith(`${resolve(folder)}/`);
        // A socket's file may be removed under a QEMU that is well: its connection decides, and then its process.
        if (inFolder && !sockets.has(machine.socketPath) && machine.identity === undefined && !(await isUp(machine))) {
          this.#machines.delete(machine.socketPath);
          this.#files.delete(machine.socketPath);
          this.changes.notify();
          await machine.close();
        }
      }
    });
  }

  /** Path → which file it is. Of several names of one socket the first, and of a link and what it leads to that. */
  async #socketsIn(folder: string): Promise<ReadonlyMap<string, string>> {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const names = entries
      .filter((entry) => (entry.isSocket() || entry.isSymbolicLink()) && fits(entry.name, this.#options.pattern ?? '*'))
      .toSorted((a, b) => Number(a.isSymbolicLink()) - Number(b.isSymbolicLink()) || (a.name < b.name ? -1 : 1));
    const named = this.#options.named.map(({ socketPath }) => resolve(socketPath));
    const taken = new Map<string, string>();
    const sockets = new Map<string, string>();
    for (const path of [...named, ...names.map(({ name }) => join(folder, name))]) {
      const found = await stat(path, { bigint: true }).catch(() => undefined);
      if (found?.isSocket() !== true) continue;
      const inode = `${found.dev}:${found.ino}`;
      const other = taken.get(inode);
      if (other !== undefined && other !== path) {
        this.#options.logger.debug({ socket: path, other }, 'a second name of a socket is not looked at');
        continue;
      }
      taken.set(inode, path);
      sockets.set(path, `${inode}:${found.ctimeNs}`);
    }
    return sockets;
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

  /** Told of each VM that can be asked, now and whenever one comes (back). */
  onUp(listener: (machine: VirtualMachine) => void): void {
    this.#onUp = listener;
    for (const machine of this.all) if (machine.identity !== undefined) listener(machine);
  }

  /** How often one of them was lost and came back. */
  get reconnects(): number {
    return this.#reconnects;
  }

  get all(): readonly VirtualMachine[] {
    return [...this.#machines.values()];
  }

  /** Those that are VMs, or may be: without the other sockets of the folder. */
  get domains(): readonly VirtualMachine[] {
    return this.all.filter(({ neighbour }) => !neighbour.isOne);
  }

  /**
   * The VM of a name or UUID. Of several (a guest that migrates has two QEMUs here for a while), one that can be
   * asked comes first; two that can be asked are nobody's.
   */
  find(domain: string, call: Call): VirtualMachine | undefined {
    return theOne(this.#named(domain, call));
  }

  /** What the caller may not read is not there. */
  #named(domain: string, call: Call): readonly VirtualMachine[] {
    return this.domains.filter((machine) => machine.answersTo(domain) && may(call, 'read', machine.name));
  }

  /**
   * The VM that runs a job: one that was seen to have it, whatever /proc says of its process, as the ids of jobs are
   * random. Else one of that UUID, or of that name where there is none, which may be it. Undefined: none, or several.
   */
  of({ job, domain, domainUuid, process }: Sought): VirtualMachine | undefined {
    const having = this.all.filter((machine) => machine.has(job) && isOfUuid(machine, domainUuid));
    // Ids of jobs are told to callers: of several that claim one, the process that had it when it began.
    const likely = (one: VirtualMachine) => one.answersTo(domainUuid ?? domain) && mayRun(one, process);
    return having.find((one) => isProcess(one, process)) ?? having[0] ?? theOne(this.all.filter(likely));
  }

  /** May this VM run the job? Another one is known to, or its process is another: then it does not. */
  mayBeOf(machine: VirtualMachine, accepted: Sought): boolean {
    if (machine.has(accepted.job)) return true;
    const { domain, domainUuid, process } = accepted;
    const isElsewhere = this.of(accepted)?.has(accepted.job) === true;
    return !isElsewhere && machine.answersTo(domainUuid ?? domain) && mayRun(machine, process);
  }

  /** Throws DOMAIN_NOT_FOUND, or FIELD_INVALID for a name that several have. */
  get(domain: string, call: Call): VirtualMachine {
    const named = this.#named(domain, call);
    const found = theOne(named);
    if (found !== undefined) return found;
    if (named.length > 0)
      throw invalidField('domain', `"${domain}" names ${named.length} domains; give the UUID of one`);
    return notThere(failure('DOMAIN_NOT_FOUND', { domain }), call, this.nameOf(domain));
  }

  /** Whoever asks: for our own log. */
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

/** Its process is there. Where nobody can tell, one that has neither socket nor connection counts as gone. */
async function isUp({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess !== undefined && (await processPresence(lastProcess)) === 'UP';
}

/** Is it this process, as far as anybody can tell? */
function mayRun({ identity }: VirtualMachine, process: QemuProcess | undefined): boolean {
  const now = identity?.facts?.process;
  return process === undefined || now === undefined || compareProcesses(process, now) !== 'OTHER';
}

/** It is known to be this process. */
function isProcess({ identity }: VirtualMachine, process: QemuProcess | undefined): boolean {
  const now = identity?.facts?.process;
  return process !== undefined && now !== undefined && compareProcesses(process, now) === 'SAME';
}

function isOfUuid({ uuid }: VirtualMachine, wanted: string | undefined): boolean {
  return uuid === undefined || wanted === undefined || uuid.toLowerCase() === wanted.toLowerCase();
}

function theOne(found: readonly VirtualMachine[]): VirtualMachine | undefined {
  const up = found.filter((machine) => machine.identity !== undefined);
  return up.length > 1 ? undefined : (up[0] ?? found[0]);
}
