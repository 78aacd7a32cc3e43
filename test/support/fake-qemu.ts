/**
 * A small QEMU on a real unix socket: it speaks QMP, has a block graph, and its jobs do what those of QEMU 7.2 do,
 * in the same order and with the same words (test/qemu/fake-is-true.test.ts holds it to that). What a real one does
 * in its own time, the test says here: `qemu.job(id).becomeReady()`. It copies no data.
 *
 * It is a process of its own to whoever asks /proc, and can die: a child holds the listening socket and hands
 * each connection over to the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { FakeJob, type Json, type Mirror, Refusal, refuse } from './fake-job.ts';
import { describeNode, type Node, qcow2SizeBytes, writeQcow2Header } from './fake-node.ts';
import { type DiskSpec, qdevOf } from './qemu.ts';

/** What went over the wire, for transcripts. `lost`: an event or answer that nobody heard. */
export type Line =
  | { readonly line: 'command'; readonly execute: string; readonly arguments: Json }
  | { readonly line: 'return'; readonly to: string; readonly lost: boolean }
  | { readonly line: 'error'; readonly to: string; readonly desc: string; readonly lost: boolean }
  | { readonly line: 'event'; readonly event: string; readonly data: Json; readonly lost: boolean }
  | { readonly line: 'disconnected' };

/** A guest's device, or what stands for it inside QEMU: has a root in the graph. */
interface Backend {
  readonly qdev: string;
  root: string;
}

const LISTENER = `
  const server = require('node:net').createServer({ pauseOnConnect: true }, (socket) => {
    process.send('connection', socket);
  });
  server.listen(process.argv[1], () => process.send('listening'));
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
  readonly disks: readonly DiskSpec[];
  readonly sizeBytes: number;
  readonly onLine?: (line: Line) => void;
}

export class FakeQemu implements AsyncDisposable {
  readonly #options: FakeQemuOptions;
  readonly #process: ChildProcess;
  readonly #nodes = new Map<string, Node>();
  readonly #backends: Backend[] = [];
  readonly #jobs = new Map<string, FakeJob>();
  readonly #faults: { readonly command: string; nth: number; readonly how: 'before' | 'after' | 'die' | Refusal }[] =
    [];
  readonly #changes: string[] = [];
  /** The first is served, the others wait for their greeting, as with QEMU. */
  readonly #clients: Socket[] = [];
  #muted = false;
  #running = true;
  #afterReply: (() => void)[] = [];

  private constructor(options: FakeQemuOptions, child: ChildProcess) {
    this.#options = options;
    this.#process = child;
    for (const disk of options.disks) this.#plug(disk);
    child.on('message', (_message, socket) => {
      if (socket instanceof Socket) this.#arrived(socket);
    });
  }

  static async start(options: FakeQemuOptions): Promise<FakeQemu> {
    const args = ['-e', LISTENER, options.socketPath];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    await once(child, 'message');
    return new FakeQemu(options, child);
  }

  // What the test says

  job(id: string): FakeJob {
    return this.#jobs.get(id) ?? refuse('Job not found');
  }

  get jobs(): readonly string[] {
    return [...this.#jobs.keys()];
  }

  /** Names of all nodes. */
  get nodes(): readonly string[] {
    return [...this.#nodes.keys()];
  }

  /** Every command that is no question, in order, whatever became of it. */
  get changes(): readonly string[] {
    return this.#changes;
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  get guestRuns(): boolean {
    return this.#running;
  }

  /** The node that a device is on. */
  rootOf(disk: string): string | undefined {
    return this.#backends.find(({ qdev }) => qdev === disk || qdev.startsWith(`/machine/peripheral/${disk}/`))?.root;
  }

  /** The next command of this name is refused; or the nth from now on. */
  failNext(command: string, desc: string, nth = 1): void {
    this.#faults.push({ command, nth, how: new Refusal(desc) });
  }

  /** The connection breaks when that command has come, and it is not executed. */
  dropConnectionBefore(command: string, nth = 1): void {
    this.#faults.push({ command, nth, how: 'before' });
  }

  /** The connection breaks when that command has been executed: nobody hears of it. */
  dropConnectionAfter(command: string, nth = 1): void {
    this.#faults.push({ command, nth, how: 'after' });
  }

  /** QEMU dies when that command has come. */
  dieAt(command: string): void {
    this.#faults.push({ command, nth: 1, how: 'die' });
  }

  /** The job that this command starts next fails as soon as the command has been answered. */
  failNextJob(command: 'blockdev-create' | 'blockdev-mirror', error: string): void {
    this.#faults.push({ command: `job of ${command}`, nth: 1, how: new Refusal(error) });
  }

  /** Faults that have not happened. */
  get pendingFaults(): number {
    return this.#faults.length;
  }

  /** As by SIGKILL: the process is gone, then its connections break. */
  async die(): Promise<void> {
    if (this.alive) {
      const exited = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exited;
    }
    for (const client of this.#clients) client.destroy();
  }

  /** Returns when every client has closed its connection: one that was forgotten keeps the test from ending. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map(async (client) => await once(client, 'close')));
    await this.die();
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
    client.write(`${JSON.stringify(GREETING)}\r\n`);
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

  /** What was asked for to go wrong with this command. */
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
    if (!this.#muted) this.#clients[0]?.write(`${JSON.stringify(message)}\r\n`);
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
      case 'query-uuid':
        return { UUID: '00000000-0000-0000-0000-000000000000' };
      case 'query-status':
        return { status: this.#running ? 'running' : 'paused', singlestep: false, running: this.#running };
      case 'query-jobs':
        return [...this.#jobs.values()].map((job) => job.asJob());
      case 'query-block-jobs':
        return [...this.#jobs.values()].filter(({ mirror }) => mirror !== undefined).map((job) => job.asBlockJob());
      case 'query-named-block-nodes':
        return [...this.#nodes.values()].map((node) => describeNode(node)).toReversed();
      case 'query-block':
        return this.#backends.map(({ qdev, root }) => ({ device: '', qdev, inserted: describeNode(this.#node(root)) }));
      case 'x-debug-query-block-graph':
        return this.#graph();
      case 'qom-get':
        return this.#deviceType(text('path'));
      case 'blockdev-add':
        return this.#add(args);
      case 'blockdev-del':
        return this.#delete(text('node-name'));
      case 'blockdev-create':
        return this.#create(args);
      case 'blockdev-mirror':
        return this.#mirror(args);
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
      case 'job-dismiss':
        return this.job(text('id')).dismiss();
      case 'stop':
        return this.#setRunning(false, 'STOP');
      case 'cont':
        return this.#setRunning(true, 'RESUME');
      default:
        return refuse(`The command ${command} has not been found`, 'CommandNotFound');
    }
  }

  #setRunning(running: boolean, event: string): void {
    if (this.#running === running) return;
    this.#running = running;
    this.#event(event, {});
    // `stop` drains all devices, which stops every job for an instant.
    if (!running) for (const job of this.#jobs.values()) job.drained();
  }

  #deviceType(path: string): string {
    const disk = this.#options.disks.find(({ id }) => path === `/machine/peripheral/${id}`);
    if (disk === undefined) return refuse(`Device '${path}' not found`, 'DeviceNotFound');
    return disk.bus === undefined ? 'ide-cd' : DEVICES[disk.bus];
  }

  #plug(disk: DiskSpec): void {
    const chain = disk.chain ?? [];
    for (const [index, { format, path }] of chain.entries()) {
      const [name, sizeBytes, readOnly] = [`${disk.id}-${index}`, this.#options.sizeBytes, index < chain.length - 1];
      const backing = index === 0 ? [] : [{ edge: 'backing', node: `${disk.id}-${index - 1}` }];
      const common = { path, readOnly, sizeBytes };
      const file = { name: `${name}-file`, driver: 'file', path, readOnly: false, sizeBytes, children: [] };
      this.#nodes.set(file.name, file);
      this.#nodes.set(name, {
        name,
        driver: format,
        ...common,
        children: [{ edge: 'file', node: `${name}-file` }, ...backing],
      });
    }
    if (chain.length > 0) this.#backends.push({ qdev: qdevOf(disk), root: `${disk.id}-${chain.length - 1}` });
  }

  #node(name: string): Node {
    return this.#nodes.get(name) ?? refuse(`Cannot find device='${name}' nor node-name='${name}'`);
  }

  #add({ driver, 'node-name': given, filename, file }: Json): void {
    const name = String(given);
    if (this.#nodes.has(name)) refuse(`Duplicate nodes with node-name='${name}'`);
    if (driver === 'file') {
      const path = String(filename);
      if (!existsSync(path)) refuse(`Could not open '${path}': No such file or directory`);
      this.#nodes.set(name, { name, driver, path, readOnly: false, sizeBytes: statSync(path).size, children: [] });
      return;
    }
    const child = this.#node(String(file));
    const sizeBytes = driver === 'raw' ? child.sizeBytes : qcow2SizeBytes(child.path);
    if (sizeBytes === undefined) return refuse('Image is not in qcow2 format');
    const children = [{ edge: 'file', node: child.name }];
    this.#nodes.set(name, { name, driver: String(driver), path: child.path, readOnly: false, sizeBytes, children });
  }

  #delete(name: string): void {
    if (!this.#nodes.has(name)) refuse(`Failed to find node with node-name='${name}'`);
    const user = [...this.#nodes.values()].find(({ children }) => children.some(({ node }) => node === name));
    const edge = user?.children.find(({ node }) => node === name)?.edge;
    const job = this.#mirrors.find(({ mirror }) => mirror.source === name);
    if (job !== undefined) refuse(`Node '${name}' is busy: block device is in use by block job: mirror`);
    if (edge === 'backing') refuse(`Node '${name}' is busy: node is used as backing hd of '${user?.name}'`);
    const target = this.#mirrors.some(({ mirror }) => mirror.target === name);
    if (target || this.#backends.some(({ root }) => root === name)) refuse(`Node ${name} is in use`);
    if (edge !== undefined) refuse(`Block device ${name} is in use`);
    this.#nodes.delete(name);
  }

  #create({ 'job-id': given, options }: Json): void {
    const id = String(given);
    const { file, size } = options as Json;
    const job = this.#newJob(id, 'create', undefined);
    const node = this.#nodes.get(String(file));
    const fault = this.#fault('job of blockdev-create');
    if (node === undefined) {
      job.conclude(['aborting'], `Cannot find device='' nor node-name='${String(file)}'`);
      return;
    }
    this.#afterReply.push(() => {
      if (fault instanceof Refusal) job.conclude(['aborting'], fault.message);
      else {
        writeQcow2Header(node.path, Number(size));
        job.conclude(['waiting', 'pending']);
      }
    });
  }

  #mirror(args: Json): void {
    const source = this.#node(String(args['device']));
    const target = this.#node(String(args['target']));
    const filter = String(args['filter-node-name']);
    if (source === target) refuse("Can't mirror node into itself");
    if (!this.#backends.some(({ root }) => root === source.name)) refuse('Need a root block node');
    if (this.#mirrors.some(({ mirror }) => mirror.target === target.name))
      refuse(`Node '${target.name}' is busy: block device is in use by block job: mirror`);
    const job = this.#newJob(String(args['job-id']), 'mirror', { source: source.name, target: target.name, filter });
    this.#nodes.set(filter, {
      ...source,
      name: filter,
      driver: 'mirror_top',
      children: [{ edge: 'backing', node: source.name }],
    });
    this.#moveRoot(source.name, filter);
    if (source.sizeBytes === 0) job.becomeReady();
    this.#afterReply.push(() => {
      const fault = this.#fault('job of blockdev-mirror');
      if (fault instanceof Refusal) job.fail(fault.message);
      else if (source.sizeBytes !== target.sizeBytes) job.fail('Source and target image have different sizes');
      else job.lengthBytes = source.sizeBytes;
    });
  }

  #newJob(id: string, type: string, mirror: Mirror | undefined): FakeJob {
    if (this.#jobs.has(id)) refuse(`Job ID '${id}' already in use`);
    const job = new FakeJob(id, type, mirror, {
      event: (event, data) => this.#event(event, data),
      afterReply: (work) => void this.#afterReply.push(work),
      ended: (pivoted) => {
        if (mirror === undefined) return;
        this.#moveRoot(mirror.filter, pivoted ? mirror.target : mirror.source);
        this.#nodes.delete(mirror.filter);
      },
      dismissed: () => void this.#jobs.delete(id),
    });
    this.#jobs.set(id, job);
    for (const status of ['created', 'running']) job.enter(status);
    return job;
  }

  /** The mirrors that have not concluded. */
  get #mirrors(): readonly { readonly id: string; readonly mirror: Mirror }[] {
    return [...this.#jobs.values()].flatMap(({ id, mirror, status }) =>
      mirror === undefined || status === 'concluded' ? [] : [{ id, mirror }],
    );
  }

  #moveRoot(from: string, to: string): void {
    for (const backend of this.#backends) if (backend.root === from) backend.root = to;
  }

  #graph(): Json {
    const nodes: { id: number; name: string; type: string }[] = [];
    const edges: { parent: number; child: number; name: string }[] = [];
    const idOf = (name: string, type: string) => nodes.push({ id: nodes.length + 1, name, type });
    const ids = new Map([...this.#nodes.keys()].map((name) => [name, idOf(name, 'block-driver')]));
    const connect = (parent: number, name: string, child: string) => {
      edges.push({ parent, child: ids.get(child) ?? 0, name });
    };
    for (const { name, children } of this.#nodes.values())
      for (const { edge, node } of children) connect(ids.get(name) ?? 0, edge, node);
    for (const { qdev, root } of this.#backends) connect(idOf(qdev, 'block-backend'), 'root', root);
    for (const { id, mirror } of this.#mirrors) {
      connect(idOf('', 'block-backend'), 'root', mirror.target);
      const job = idOf(id, 'block-job');
      connect(job, 'main node', mirror.filter);
      connect(job, 'source', mirror.source);
      connect(job, 'target', mirror.target);
    }
    return { nodes, edges };
  }
}
