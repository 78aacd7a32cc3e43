/** One QEMU: its monitor, its identity, and the questions that the agent asks it. */
import type { Logger } from 'pino';
import type { BlockGraph } from '../../core/disk/chain.ts';
import { BlockJobError, fail } from '../../core/errors.ts';
import type { QemuProcess } from '../../core/job/qemu-identity.ts';
import { type QemuBlockDevice, readBlockDevices } from '../../core/qemu/block-replies.ts';
import type { GuestCommand, QmpCommand } from '../../core/qemu/commands.ts';
import { type QemuBlockJob, type QemuJob, readBlockJobs, readJobs, readRunState } from '../../core/qemu/replies.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';
import { Wake } from '../../lib/wake.ts';
import type { Budget } from '../../qmp/budget.ts';
import { Disconnected, NotSent } from '../../qmp/errors.ts';
import { type ExecuteOptions, Monitor, type QmpEvent } from '../../qmp/monitor.ts';
import { type OpenFiles, openFilesOf } from '../host/open-files.ts';
import { failureFrom } from './failures.ts';
import { Formats } from './formats.ts';
import { ALL_NODES, GRAPH_QUESTIONS, graphFrom } from './graph-questions.ts';
import { HeardEnds } from './heard-ends.ts';
import { type Identity, identifyMachine } from './identity.ts';
import { JobsHere } from './jobs-here.ts';
import { Neighbour } from './neighbour.ts';
import { Silence } from './silence.ts';
import { Standstill } from './standstill.ts';
import { WhyPaused } from './why-paused.ts';

export interface VirtualMachineOptions {
  readonly socketPath: string;
  /** As in --qmp NAME=…; undefined if its own -name or file names it: then its folder may have other sockets. */
  readonly givenName: string | undefined;
  readonly logger: Logger;
  /** The memory that its QEMU may make us use, together with others. */
  readonly budget?: Budget | undefined;
  readonly observer?: Observer | undefined;
  /** It has sent its identity, and can be asked. */
  readonly onUp?: () => void;
  /** As `wake`, for listeners to all VMs. */
  readonly onChange?: () => void;
}

export class VirtualMachine {
  /** Notified at every event and at every change of the connection. */
  readonly wake = new Wake();
  readonly heardEnds = new HeardEnds();
  readonly silence = new Silence();
  readonly standstill = new Standstill(this);
  readonly #whyPaused = new WhyPaused();
  readonly socketPath: string;
  readonly neighbour: Neighbour;
  readonly #formats = new Formats(this);
  readonly #givenName: string | undefined;
  readonly #logger: Logger;
  readonly #observer: Observer;
  readonly #monitor: Monitor;
  /** The last one, also while it is being renewed. */
  #trouble = 'not connected yet';
  #identity: Identity | undefined;
  #lastGraph: BlockGraph | undefined;
  /** Our jobs that this very QEMU has, or has had, as seen over the present connection. */
  #jobsHere = new JobsHere();
  /** Kept when the connection is lost, so that the domain keeps its name. */
  #lastIdentity: Identity | undefined;

  constructor({ socketPath, givenName, logger, budget, observer = NOBODY, onUp, onChange }: VirtualMachineOptions) {
    if (onChange !== undefined) this.wake.onChange(onChange);
    this.#observer = observer;
    this.socketPath = socketPath;
    this.#givenName = givenName;
    this.#logger = logger.child({ qmp: socketPath });
    this.#monitor = new Monitor({
      path: socketPath,
      mayBeAnother: givenName === undefined,
      ...(budget && { budget }),
      onStray: (message) => this.#logger.warn({ message }, 'Unexpected message on a QMP socket'),
    });
    this.neighbour = new Neighbour(this.#monitor, this.#logger);
    this.#monitor.onEvent((event) => {
      for (const hears of [this.heardEnds, this.#jobsHere, this.#whyPaused]) hears.take(event);
      this.wake.notify();
    });
    this.#monitor.onState((state) => {
      this.#identity = undefined;
      this.#jobsHere = new JobsHere();
      const lost = state.is === 'disconnected' ? state.error : undefined;
      if (lost !== undefined) this.#trouble = lost.message;
      // The reason may have been a lack of room for it.
      if (lost instanceof Disconnected && lost.why === 'too-much') this.#lastGraph = undefined;
      if (state.is !== 'connected') return this.wake.notify();
      this.#trouble = 'it has not sent its identity yet';
      this.#identify(state.generation, onUp).catch((error: unknown) => {
        this.#logger.info({ error: String(error) }, 'QEMU did not send its identity');
        // It would not be asked again over this connection.
        if (this.#monitor.state === state) this.neighbour.didNotSay(error);
      });
    });
  }

  start(): void {
    this.#monitor.start();
  }

  get name(): string {
    const fileName = this.socketPath.slice(this.socketPath.lastIndexOf('/') + 1).replace(/\.(sock|qmp|socket)$/, '');
    return this.#givenName ?? this.#lastIdentity?.name ?? fileName;
  }

  get uuid(): string | undefined {
    return this.#lastIdentity?.uuid;
  }

  /** Undefined while QEMU cannot be asked. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** The process behind the socket when it could last be asked. */
  get lastProcess(): QemuProcess | undefined {
    return this.#lastIdentity?.facts?.process;
  }

  /** Why it cannot be asked, while it cannot. */
  get trouble(): string {
    return this.#trouble;
  }

  get nobodyListens(): boolean {
    return this.#monitor.nobodyListens;
  }

  answersTo(domain: string): boolean {
    return this.name === domain || (this.uuid !== undefined && this.uuid.toLowerCase() === domain.toLowerCase());
  }

  async #identify(generation: number, onUp: (() => void) | undefined): Promise<void> {
    const state = this.#monitor.state;
    const { identity, jobs } = await identifyMachine(this.#monitor, this.socketPath, generation);
    if (this.#monitor.state !== state) return;
    this.#jobsHere.listed(jobs);
    this.#identity = identity;
    this.neighbour.isMachine();
    this.#lastIdentity = this.#identity;
    this.#logger.info({ domain: this.name, uuid: this.uuid, pid: identity.facts?.process.pid }, 'QEMU is connected');
    onUp?.();
    this.wake.notify();
  }

  /** Rejects with the errors of src/qmp/errors.ts. */
  async execute(command: QmpCommand): Promise<unknown> {
    return await this.#formats.around(command, async () => await this.#ask(command));
  }

  /** Like execute: only for the hold of this VM. `atTurn`: called right before sending; is the command still wanted? */
  async steer(command: GuestCommand, atTurn: () => boolean): Promise<void> {
    await this.#formats.around(command, async () => {
      // Right before it, because QEMU answers in order, and the guest does not wait for the answer.
      if (command.execute === 'cont') this.blockJobs().catch(() => undefined);
      await this.#ask(command, { atTurn });
    });
  }

  /** Hears each event in QEMU's order, those of a command before its answer, for as long as this VM is here. */
  onEvent(listener: (event: QmpEvent) => void): void {
    this.#monitor.onEvent(listener);
  }

  /** Like execute, past every command that hangs: for the few commands that QEMU takes out of band. */
  async executeOutOfBand(command: QmpCommand): Promise<unknown> {
    return await this.#during(command, async () => await this.#monitor.executeOob(command));
  }

  async #ask(command: QmpCommand | GuestCommand, options: ExecuteOptions = {}): Promise<unknown> {
    const execute = async () => await this.silence.during(async () => await this.#monitor.execute(command, options));
    return await this.#during(command, execute);
  }

  async #during<T>({ execute: command }: QmpCommand | GuestCommand, ask: () => Promise<T>): Promise<T> {
    if (this.#identity === undefined) throw new NotSent(command, this.trouble);
    return await this.#observer.during({ does: 'qmp', command, domain: this.name }, ask);
  }

  async jobs(): Promise<readonly QemuJob[]> {
    const before = this.#identity;
    const jobs = readJobs(await this.execute({ execute: 'query-jobs' }));
    if (this.#identity === before) this.#jobsHere.listed(jobs);
    return jobs;
  }

  /** A job will be started here. */
  expect(job: string): void {
    if (this.#identity !== undefined) this.#jobsHere.know(job);
  }

  /** It was seen with this job, over the present connection: so it is the QEMU that runs it, whatever /proc says. */
  has(job: string): boolean {
    return this.#jobsHere.has(job);
  }

  /** It was running at QEMU's last report over the present connection: the guest has not moved. */
  isUnderWay(job: string): boolean {
    return this.#jobsHere.isUnderWay(job);
  }

  async blockJobs(): Promise<readonly QemuBlockJob[]> {
    const ask = async () => readBlockJobs(await this.execute({ execute: 'query-block-jobs' }));
    return this.standstill.unseenIn(await this.#whyPaused.of(ask));
  }

  async blockDevices(): Promise<readonly QemuBlockDevice[]> {
    return readBlockDevices(await this.execute({ execute: 'query-blockstats' }));
  }

  /** QEMU's own word for the state of its guest: running, paused, suspended, … */
  async runState(): Promise<string> {
    return readRunState(await this.execute({ execute: 'query-status' }));
  }

  /** The state at the last question; undefined if it was never asked. */
  get lastGraph(): BlockGraph | undefined {
    return this.#lastGraph;
  }

  async graph(): Promise<BlockGraph> {
    const ask = async () => await Promise.all(GRAPH_QUESTIONS.map(async (command) => await this.#ask(command)));
    const answers = await this.#formats.around(ALL_NODES, ask);
    this.#lastGraph = await graphFrom(answers, this, this.#identity?.facts?.workingDirectory);
    return this.#lastGraph;
  }

  /** Its open files, and the meaning of its file names; undefined if /proc does not show them. */
  openFiles(): OpenFiles | undefined {
    const { facts, isItself } = this.#lastIdentity ?? {};
    return facts === undefined || isItself !== true ? undefined : openFilesOf(facts.process.pid);
  }

  /** Does `work` on a QEMU that can be asked; an error of QEMU, or of the connection, becomes a failure. */
  async asking<T>(work: (identity: Identity) => Promise<T>): Promise<T> {
    if (this.#identity === undefined) fail('QEMU_UNREACHABLE', { domain: this.name, why: this.trouble });
    try {
      return await work(this.#identity);
    } catch (error) {
      const why = failureFrom(error, { domain: this.name, path: '', doing: 'asking QEMU' });
      throw why === undefined ? error : new BlockJobError(why, { cause: error });
    }
  }

  async close(): Promise<void> {
    await this.#monitor.close();
  }
}
