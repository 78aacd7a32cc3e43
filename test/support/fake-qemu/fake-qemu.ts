/**
 * A small QEMU on a real unix socket: it speaks QMP, has a block graph, and its jobs do what those of QEMU 7.2 do,
 * in the same order and with the same words (test/qemu/fake-is-true.test.ts compares them). The test decides when a job
 * moves on: `qemu.job(id).becomeReady()`. It copies no data.
 *
 * In /proc it is a process of its own, and it can die: a child holds the listening socket and hands each connection
 * over to the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { Wake } from '../../../src/lib/wake.ts';
import type { DiskSpec } from '../real-qemu/qemu.ts';
import { FakeGraph, type GraphState } from './fake-graph.ts';
import { FakeJob, type JobNodes, type JobState, type Json, Refusal, refuse } from './fake-job.ts';
import { writeQcow2Header } from './fake-node.ts';

/** The messages of the connection, for transcripts. `lost`: an event or answer that nobody received. */
export type Line =
  | { readonly line: 'command'; readonly execute: string; readonly arguments: Json }
  | { readonly line: 'return'; readonly to: string; readonly lost: boolean }
  | { readonly line: 'error'; readonly to: string; readonly desc: string; readonly lost: boolean }
  | { readonly line: 'event'; readonly event: string; readonly data: Json; readonly lost: boolean }
  | { readonly line: 'disconnected' };

/** The whole state of a QEMU at one moment, except its files. */
export interface Moment {
  readonly graph: GraphState;
  readonly jobs: ReadonlyMap<FakeJob, JobState>;
  /** The ids of jobs that have not been dismissed. */
  readonly listed: ReadonlyMap<string, FakeJob>;
  readonly running: boolean;
  /** The limits of disks, by qdev. */
  readonly limits: ReadonlyMap<string, Json>;
}

const NOTHING: GraphState = { nodes: new Map(), backends: [] };

const LISTENER = `
  const server = require('node:net').createServer({ pauseOnConnect: true }, (socket) => {
    process.send('connection', socket);
  });
  server.listen(process.argv[1], () => process.send('listening'));
  const { closeSync, openSync } = require('node:fs');
  const open = new Map();
  process.on('message', (paths) => {
    for (const [path, descriptor] of open) if (!paths.includes(path)) closeSync(descriptor), open.delete(path);
    for (const path of paths) if (!open.has(path)) open.set(path, openSync(path));
    process.send('open');
  });
  process.on('disconnect', () => process.exit());`;

/** Questions, and the negotiation: they change nothing. */
export const QUESTION = /^(query-|x-debug-query|qom-get|qmp_capabilities)/;

const DEVICES = { 'virtio-blk': 'virtio-blk-pci', 'virtio-scsi': 'scsi-hd', nvme: 'nvme', ide: 'ide-hd' };
const GREETING = {
  QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'fake' }, capabilities: ['oob'] },
};

export interface FakeQemuOptions {
  readonly socketPath: string;
  readonly name: string;
  /** All zeros by default, as of QEMU without -uuid. */
  readonly uuid?: string;
  readonly disks: readonly DiskSpec[];
  readonly sizeBytes: number;
  readonly onLine?: (line: Line) => void;
}

export class FakeQemu implements AsyncDisposable {
  readonly #options: FakeQemuOptions;
  readonly #process: ChildProcess;
  readonly #graph: FakeGraph;
  /** Jobs that have not been dismissed. */
  #jobs: ReadonlyMap<string, FakeJob> = new Map();
  #everyJob: readonly FakeJob[] = [];
  readonly #faults: { readonly command: string; nth: number; readonly how: 'before' | 'after' | 'die' | Refusal }[] =
    [];
  #changes: string[] = [];
  /** The number of orders to the process to open files, and the number of its answers. */
  #told = 0;
  #heldOpen = 0;
  readonly #untilOpen: (() => void)[] = [];
  /** The first is served, the others wait for their greeting, as with QEMU. */
  readonly #clients: Socket[] = [];
  #muted = false;
  /** Notified when the guest is stopped or continued. */
  readonly guestChanged = new Wake();
  #running = true;
  #limits: ReadonlyMap<string, Json> = new Map();
  #migration: 'none' | 'active' | 'cancelled' | 'completed' = 'none';
  #afterReply: (() => void)[] = [];

  private constructor(options: FakeQemuOptions, child: ChildProcess) {
    this.#options = options;
    this.#process = child;
    this.#graph = new FakeGraph(
      options.disks,
      options.sizeBytes,
      () => this.#jobs.values(),
      (paths) => this.#holdOpen(paths),
    );
    child.on('message', (message, socket) => {
      if (socket instanceof Socket) this.#arrived(socket);
      if (message !== 'open') return;
      this.#heldOpen += 1;
      if (this.#heldOpen === this.#told) this.#goOn();
    });
    child.on('exit', () => this.#goOn());
  }

  static async start(options: FakeQemuOptions): Promise<FakeQemu> {
    const args = ['-e', LISTENER, options.socketPath];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    await once(child, 'message');
    const qemu = new FakeQemu(options, child);
    await qemu.opened;
    return qemu;
  }

  // The commands of the test

  job(id: string): FakeJob {
    return this.#jobs.get(id) ?? refuse('Job not found');
  }

  get jobs(): readonly string[] {
    return [...this.#jobs.keys()];
  }

  /** A job, also one that is over. */
  anyJob(id: string): FakeJob | undefined {
    return this.#everyJob.find((job) => job.id === id);
  }

  /** Names of all nodes. */
  get nodes(): readonly string[] {
    return [...this.#graph.nodes.keys()];
  }

  pathOf(node: string): string | undefined {
    return this.#graph.nodes.get(node)?.path;
  }

  /** The nodes below the guest's device of a disk, from its root down. */
  nodesOf(disk: string): readonly string[] {
    return this.#graph.below(this.rootOf(disk) ?? '');
  }

  /**
   * The progress of a migration of the guest. QEMU sends no event for it, unless a client has asked for these events.
   */
  migrate(status: 'active' | 'cancelled' | 'completed'): void {
    if (status === 'completed') this.#setRunning(false, 'STOP');
    this.#migration = status;
  }

  /** An event without a command of the service, up to its end. */
  meanwhile(work: () => void): void {
    work();
    for (const next of this.#afterReply.splice(0)) next();
  }

  get now(): Moment {
    const jobs = new Map(this.#everyJob.map((job) => [job, job.state]));
    return { graph: this.#graph.state, jobs, listed: this.#jobs, running: this.#running, limits: this.#limits };
  }

  /** Restores that moment, without any event: for times when nobody is connected. */
  restore({ graph, jobs, listed, running, limits }: Moment): void {
    for (const [job, state] of jobs) job.restore(state);
    this.#everyJob = [...jobs.keys()];
    this.#graph.restore(this.alive ? graph : NOTHING);
    this.#jobs = this.alive ? listed : new Map();
    this.#running = running;
    this.#limits = this.alive ? limits : new Map();
    this.#changes = [];
  }

  /** Every command that changes something, in order, whatever its result. */
  get changes(): readonly string[] {
    return this.#changes;
  }

  /** Its jobs and the commands that it got, for messages. */
  get words(): string {
    const jobs = [...this.#jobs.values()].map((job) => JSON.stringify(job.asJob()));
    return `QEMU: ${jobs.join(', ') || 'no job'}; ${this.#clients.length} clients; ${this.#changes.join(' ')}`;
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  get guestRuns(): boolean {
    return this.#running;
  }

  /** The node that a device is on. */
  rootOf(disk: string): string | undefined {
    return this.#graph.rootOf(disk);
  }

  /** The limits of a disk; undefined if it has none. */
  limitsOf(disk: string): Json | undefined {
    return [...this.#limits].find(([qdev]) => qdev.includes(disk))?.[1];
  }

  /** Sets the limits of a disk, or takes them away, as `block_set_io_throttle`. Without a group it stays in its own. */
  limit({ id, group, ...values }: Json): void {
    const qdev = String(id);
    const others = new Map([...this.#limits].filter(([one]) => one !== qdev));
    const isLimited = Object.values(values).some((value) => value !== 0);
    const own = group ?? this.#limits.get(qdev)?.['group'] ?? qdev;
    this.#limits = isLimited ? others.set(qdev, { ...values, group: own }) : others;
  }

  /** Refuses the next command of this name, or the nth from now on. */
  failNext(command: string, desc: string, nth = 1): void {
    this.#faults.push({ command, nth, how: new Refusal(desc) });
  }

  /** Breaks the connection when that command has come; the command is not executed. */
  dropConnectionBefore(command: string, nth = 1): void {
    this.#faults.push({ command, nth, how: 'before' });
  }

  /** Breaks the connection when that command has been executed: its answer is lost. */
  dropConnectionAfter(command: string, nth = 1): void {
    this.#faults.push({ command, nth, how: 'after' });
  }

  /** QEMU dies when that command has come. */
  dieAt(command: string): void {
    this.#faults.push({ command, nth: 1, how: 'die' });
  }

  /** The job that this command starts next fails as soon as the command has been answered. */
  failNextJob(command: 'blockdev-create' | 'blockdev-mirror' | 'block-stream' | 'block-commit', error: string): void {
    this.#faults.push({ command: `job of ${command}`, nth: 1, how: new Refusal(error) });
  }

  /** Faults that have not happened. */
  get pendingFaults(): number {
    return this.#faults.length;
  }

  /** As by SIGKILL: the process ends, then its connections break. */
  async die(): Promise<void> {
    if (this.alive) {
      const exited = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exited;
    }
    for (const client of this.#clients) client.destroy();
  }

  /** Returns when every client has closed its connection: a forgotten connection keeps the test from ending. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map(async (client) => await once(client, 'close')));
    await this.die();
  }

  /** As a real QEMU has its files: /proc shows them when the command is answered, and before anything is heard of it. */
  #holdOpen(paths: readonly string[]): void {
    if (!this.alive) return;
    this.#told += 1;
    this.#process.send([...paths]);
  }

  /** Resolves when /proc shows the files that it has open. */
  get opened(): Promise<void> {
    return new Promise((resolve) => this.#whenOpen(resolve));
  }

  #whenOpen(work: () => void): void {
    if (this.#heldOpen === this.#told || !this.alive) work();
    else this.#untilOpen.push(work);
  }

  #goOn(): void {
    for (const work of this.#untilOpen.splice(0)) work();
  }

  // The wire

  #arrived(client: Socket): void {
    this.#clients.push(client);
    client.on('error', () => undefined); // 'close' comes after it
    client.on('close', () => {
      const served = this.#clients[0] === client;
      this.#clients.splice(this.#clients.indexOf(client), 1);
      if (served) this.#serve(this.#clients[0]);
    });
    if (this.#clients.length === 1) this.#serve(client);
  }

  #serve(client: Socket | undefined): void {
    this.#muted = true; // until the negotiation
    if (client === undefined) return;
    let rest = '';
    client.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (!client.destroyed) this.#handle(client, JSON.parse(line) as Json);
    });
    // Not before it shows the files of a command whose answer was lost.
    this.#whenOpen(() => client.write(`${JSON.stringify(GREETING)}\r\n`));
    client.resume();
  }

  #handle(client: Socket, { execute, arguments: args = {}, id }: Json): void {
    const [command, options] = [String(execute), args as Json];
    this.#options.onLine?.({ line: 'command', execute: command, arguments: options });
    if (!QUESTION.test(command)) this.#changes.push(command);
    const fault = this.#fault(command);
    if (command === 'qmp_capabilities') this.#muted = false;
    if (typeof fault === 'string') this.#muted = true;
    if (fault !== 'before' && fault !== 'die')
      this.#answer(command, id, () => {
        if (fault instanceof Refusal) throw fault;
        return this.#execute(command, options);
      });
    if (typeof fault !== 'string') return;
    this.#options.onLine?.({ line: 'disconnected' });
    if (fault === 'die') void this.die();
    else client.destroy();
  }

  /** The fault that the test wants for this command. */
  #fault(command: string) {
    for (const fault of this.#faults) if (fault.command === command) fault.nth -= 1;
    const at = this.#faults.findIndex((fault) => fault.command === command && fault.nth === 0);
    return at === -1 ? undefined : this.#faults.splice(at, 1)[0]?.how;
  }

  #answer(to: string, id: unknown, work: () => unknown): void {
    const lost = this.#muted;
    try {
      const value = work() ?? {};
      this.#options.onLine?.({ line: 'return', to, lost });
      this.#send({ return: value, id });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#options.onLine?.({ line: 'error', to, desc: error.message, lost });
      this.#send({ id, error: { class: error.qemuClass, desc: error.message } });
    }
    for (const next of this.#afterReply.splice(0)) next();
  }

  #send(message: Json): void {
    if (this.#muted) return;
    const [client] = this.#clients;
    this.#whenOpen(() => client?.write(`${JSON.stringify(message)}\r\n`));
  }

  #event(event: string, data: Json): void {
    this.#options.onLine?.({ line: 'event', event, data, lost: this.#muted });
    this.#send({ timestamp: { seconds: 1, microseconds: 2 }, event, data });
  }

  // The commands

  #execute(command: string, args: Json): unknown {
    const text = (key: string) => String(args[key]);
    switch (command) {
      case 'qmp_capabilities':
        return {};
      case 'query-name':
        return { name: this.#options.name };
      case 'query-chardev':
        return [];
      case 'query-cpus-fast':
        return [{ 'thread-id': this.#process.pid }];
      case 'query-uuid':
        return { UUID: this.#options.uuid ?? '00000000-0000-0000-0000-000000000000' };
      case 'query-status':
        return { status: this.#runState, running: this.#running };
      case 'query-migrate':
        return this.#migration === 'none' ? {} : { status: this.#migration };
      case 'query-jobs':
        return [...this.#jobs.values()].map((job) => job.asJob());
      case 'query-block-jobs':
        return [...this.#jobs.values()].filter(({ nodes }) => nodes !== undefined).map((job) => job.asBlockJob());
      case 'query-named-block-nodes':
        return this.#graph.queryNodes();
      case 'query-block':
        return this.#graph.queryDevices().map(({ device, qdev }) => ({
          device,
          qdev,
          inserted: { bps_wr: 0, iops: 0, ...this.#limits.get(String(qdev)) },
        }));
      case 'block_set_io_throttle':
        return this.limit(args);
      case 'query-blockstats':
        return this.#graph.queryDevices();
      case 'x-debug-query-block-graph':
        return this.#graph.query();
      case 'qom-get':
        return this.#deviceType(text('path'));
      case 'blockdev-add':
        return this.#graph.add(args);
      case 'blockdev-del':
        return this.#graph.delete(text('node-name'));
      case 'blockdev-reopen':
        return this.#graph.reopen(String((args['options'] as readonly Json[])[0]?.['node-name']));
      case 'blockdev-create':
        return this.#create(args);
      case 'blockdev-mirror':
        return this.#mirror(args);
      case 'block-stream':
        return this.#stream(args);
      case 'block-commit':
        return this.#commit(args);
      case 'job-finalize':
        return this.job(text('id')).finalize();
      case 'job-complete':
        return this.job(text('id')).complete();
      case 'job-cancel':
        return this.job(text('id')).cancel(true);
      case 'block-job-cancel': {
        const job = this.#jobs.get(text('device'));
        return (
          job?.cancel(args['force'] === true) ?? refuse(`Block job '${text('device')}' not found`, 'DeviceNotActive')
        );
      }
      case 'block-job-set-speed':
        return this.job(text('device')).setSpeed(Number(args['speed']));
      case 'job-pause':
        return this.job(text('id')).pause();
      case 'job-resume':
        return this.job(text('id')).resume();
      case 'job-dismiss':
        return this.job(text('id')).dismiss();
      case 'transaction':
        return;
      case 'stop':
        return this.#setRunning(false, 'STOP');
      case 'cont':
        return this.#setRunning(true, 'RESUME');
      default:
        return refuse(`The command ${command} has not been found`, 'CommandNotFound');
    }
  }

  get #runState(): string {
    if (this.#migration === 'completed') return 'postmigrate';
    return this.#running ? 'running' : 'paused';
  }

  #setRunning(running: boolean, event: string): void {
    if (this.#running === running) return;
    this.#running = running;
    this.#event(event, {});
    this.guestChanged.notify();
    // `stop` drains all devices, which stops every job for an instant.
    if (!running) for (const job of this.#jobs.values()) job.drained();
  }

  #deviceType(path: string): string {
    const disk = this.#options.disks.find(({ id }) => path === `/machine/peripheral/${id}`);
    if (disk === undefined) return refuse(`Device '${path}' not found`, 'DeviceNotFound');
    return disk.bus === undefined ? 'ide-cd' : DEVICES[disk.bus];
  }

  #create({ 'job-id': given, options }: Json): void {
    const { file, size } = options as Json;
    const job = this.#newJob({ 'job-id': given }, 'create', undefined);
    const path = this.pathOf(String(file));
    const fault = this.#fault('job of blockdev-create');
    if (path === undefined) {
      job.conclude(['aborting'], 'FAILED', { error: `Cannot find device='' nor node-name='${String(file)}'` });
      return;
    }
    this.#afterReply.push(() => {
      if (fault instanceof Refusal) job.conclude(['aborting'], 'FAILED', { error: fault.message });
      else {
        writeQcow2Header(path, Number(size));
        job.conclude(['waiting', 'pending'], 'DONE');
      }
    });
  }

  #mirror(args: Json): void {
    const [source, target] = [String(args['device']), String(args['target'])];
    const job = this.#newJob(args, 'mirror', () =>
      this.#graph.mirror(source, target, String(args['filter-node-name'])),
    );
    const sizeOf = (node: string) => this.#graph.nodes.get(node)?.sizeBytes ?? 0;
    if (sizeOf(source) === 0) job.becomeReady();
    this.#begin('blockdev-mirror', job, () => {
      if (sizeOf(source) !== sizeOf(target)) job.fail('Source and target image have different sizes');
      else job.lengthBytes = sizeOf(source);
    });
  }

  #stream(args: Json): void {
    const { device, 'base-node': base, 'backing-file': name } = args;
    const backingFile = typeof name === 'string' ? name : '';
    const nodes = () => this.#graph.stream(String(device), typeof base === 'string' ? base : undefined, backingFile);
    const job = this.#newJob(args, 'stream', nodes);
    this.#begin('block-stream', job, () => void (job.lengthBytes = this.#options.sizeBytes));
  }

  #commit(args: Json): void {
    const [device, top, base, filter] = ['device', 'top-node', 'base-node', 'filter-node-name'].map((key) =>
      String(args[key]),
    ) as [string, string, string, string];
    const nodes = () =>
      top === device
        ? this.#graph.mirror(top, base, filter)
        : this.#graph.commit(device, [top, base], filter, String(args['backing-file']));
    const job = this.#newJob(args, 'commit', nodes);
    this.#begin('block-commit', job, () => void (job.lengthBytes = this.#options.sizeBytes));
  }

  /** The first work of a job is done when its command has been answered. */
  #begin(command: string, job: FakeJob, work: () => void): void {
    this.#afterReply.push(() => {
      const fault = this.#fault(`job of ${command}`);
      if (fault instanceof Refusal) job.fail(fault.message);
      else work();
    });
  }

  #newJob(args: Json, type: string, nodes: (() => JobNodes) | undefined): FakeJob {
    const id = String(args['job-id']);
    const held = nodes?.();
    if (this.#jobs.has(id)) refuse(`Job ID '${id}' already in use`);
    const ends = { byItself: args['auto-finalize'] !== false, dismissed: args['auto-dismiss'] === true };
    const job = new FakeJob(
      { id, type, nodes: held, ends },
      {
        event: (event, data) => this.#event(event, data),
        afterReply: (work) => void this.#afterReply.push(work),
        dismissed: () => void (this.#jobs = new Map([...this.#jobs].filter(([other]) => other !== id))),
      },
    );
    held?.begin();
    this.#jobs = new Map(this.#jobs).set(id, job);
    this.#everyJob = [...this.#everyJob, job];
    for (const status of ['created', 'running']) job.enter(status);
    return job;
  }
}
