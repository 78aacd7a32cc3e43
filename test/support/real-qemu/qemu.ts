/**
 * QEMUs without a guest system, for tests: the firmware idles, and the test itself writes "like a guest" through the
 * device's own backend. Also the images to start them with, and the checks of images. The admin client here is separate
 * from the product's QMP client on purpose: a test must not use the code that it checks.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { likeOneBefore } from '../images/chain-templates.ts';

const COMMAND_MS = 15_000;
const START_MS = 30_000;
const QUIT_MS = 5_000;

// ---- outside programs and temporary directories ---------------------------------------------------------

export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. A status that is not in `accept` is an error, with all its output. */
export function run(
  program: string,
  args: string[],
  { accept = [0], timeoutMs = 120_000 }: { accept?: number[]; timeoutMs?: number } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1 << 26 } as const;
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number' && accept.includes(code)) {
        resolve({ code, stdout, stderr });
      } else {
        const how = error?.killed ? `not within ${timeoutMs} ms` : (error?.signal ?? code ?? 'failed');
        const text = `${program} ${args.join(' ')}: ${how}\n${stderr}${stdout}`.slice(0, 4000).trimEnd();
        reject(new Error(text, { cause: error }));
      }
    });
    child.stdin?.end();
  });
}

/** Whether a process of this id has not ended. (A zombie counts as ended.) */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** The promise's value; throws if it does not come in time. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export interface TestDir extends AsyncDisposable {
  readonly path: string;
}

/** A temporary directory, short enough for unix sockets; removed at dispose unless KEEP_TEST_DIRS is set. */
export async function testDir(prefix = 'bj-', parent = tmpdir()): Promise<TestDir> {
  const path = await mkdtemp(join(parent, prefix));
  if (Buffer.byteLength(path) > 80) {
    await rm(path, { recursive: true });
    throw new Error(`the path is too long for unix sockets, choose a shorter TMPDIR: ${path}`);
  }
  return {
    path,
    async [Symbol.asyncDispose]() {
      if (process.env['KEEP_TEST_DIRS']) {
        console.warn(`kept: ${path}`);
      } else {
        await rm(path, { recursive: true, force: true });
      }
    },
  };
}

// ---- the tests' own QMP client --------------------------------------------------------------------------

export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
  /** When QEMU sent it, by the host's clock. */
  timeMs: number;
}

interface QmpMessage {
  QMP?: unknown;
  event?: string;
  data?: Record<string, unknown>;
  timestamp?: { seconds: number; microseconds: number };
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
}

/** An entry of query-block, as far as tests look at it. */
export interface BlockEntry {
  device: string;
  qdev?: string;
  inserted?: {
    'node-name': string;
    drv: string;
    file: string;
    ro: boolean;
    bps_wr: number;
    group?: string;
    image: { filename: string; format: string; 'virtual-size': number };
  };
}

/** The answer of QEMU is taken for the type that the caller names. */
interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Admin {
  /** Every event since QEMU took commands, in order. */
  readonly events: QmpEvent[] = [];
  readonly #socket: Socket;
  readonly #printed: () => string;
  readonly #waiters = new Map<number, Waiter>();
  #lastId = 0;
  #closed = false;
  #io: Promise<unknown> = Promise.resolve();

  private constructor(socket: Socket, printed: () => string) {
    this.#socket = socket;
    this.#printed = printed;
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const message: QmpMessage = JSON.parse(line);
        this.#take(message);
      }
    });
    socket.on('error', () => undefined); // 'close' comes after it
    socket.on('close', () => {
      this.#closed = true;
      for (const waiter of this.#waiters.values()) {
        waiter.reject(new Error('QEMU has closed the admin socket'));
      }
    });
  }

  /** `printed`: all output of QEMU up to now; it prints the results of qemu-io commands. */
  static async connect(socket: Socket, printed: () => string): Promise<Admin> {
    const admin = new Admin(socket, printed);
    await admin.#expect(0, 'QMP greeting');
    await admin.execute('qmp_capabilities');
    return admin;
  }

  #take(message: QmpMessage): void {
    if (message.event !== undefined) {
      const { event, data = {}, timestamp } = message;
      const timeMs = timestamp === undefined ? Date.now() : timestamp.seconds * 1000 + timestamp.microseconds / 1000;
      this.events.push({ event, data, timeMs });
      return;
    }
    const waiter = this.#waiters.get(message.QMP === undefined ? (message.id ?? -1) : 0);
    if (message.error === undefined) {
      waiter?.resolve(message.return);
    } else {
      waiter?.reject(new Error(`${message.error.class}: ${message.error.desc}`));
    }
  }

  async #expect<T>(id: number, what: string): Promise<T> {
    const answer = new Promise<T>((resolve, reject) => this.#waiters.set(id, { resolve, reject }));
    try {
      return await within(COMMAND_MS, what, answer);
    } finally {
      this.#waiters.delete(id);
    }
  }

  /** Runs a QMP command; returns its `return`, or throws "COMMAND: CLASS: text". The caller chooses T. */
  async execute<T = unknown>(command: string, args: Record<string, unknown> = {}): Promise<T> {
    if (this.#closed) {
      throw new Error(`${command}: QEMU has closed the admin socket`);
    }
    this.#lastId += 1;
    const answer = this.#expect<T>(this.#lastId, 'answer');
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id: this.#lastId })}\n`);
    try {
      return await answer;
    } catch (error) {
      throw new Error(`${command}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }

  /** query-block's entry for a device id, a qdev path or a drive id. */
  async block(target: string): Promise<BlockEntry> {
    const names = [target, `/machine/peripheral/${target}`, `/machine/peripheral/${target}/virtio-backend`];
    for (const entry of await this.execute<BlockEntry[]>('query-block')) {
      if (entry.device === target || (entry.qdev !== undefined && names.includes(entry.qdev))) {
        return entry;
      }
    }
    throw new Error(`query-block knows no device or drive '${target}'`);
  }

  /**
   * Runs a qemu-io command through a device's own backend, as its guest would, and returns its output. `target` is a
   * device id, a qdev path or a drive id. A failed command is an error; so is a read with -P PATTERN that finds other
   * bytes.
   */
  hmpQemuIo(target: string, command: string): Promise<string> {
    const turn = this.#io.then(() => this.#qemuIo(target, command)); // one at a time: they share the output
    this.#io = turn.catch(() => undefined);
    return turn;
  }

  async #qemuIo(target: string, command: string): Promise<string> {
    const entry = await this.block(target);
    const where = entry.device === target ? target : `-d ${entry.qdev}`;
    const before = this.#printed().length;
    const answer = await this.execute<string>('human-monitor-command', {
      'command-line': `qemu-io ${where} "${command}"`,
    });
    // The monitor's answer is empty whether or not the command worked; only the output of QEMU shows it.
    const printed = `${this.#printed().slice(before)}${answer}`;
    // Other parts of QEMU warn meanwhile, for example of a connection that they close.
    const text = printed.replace(/^qemu-system-\S+: .*$/gm, '').trim();
    const moves = /^(?:write|read|discard)/.test(command);
    const moved = /^(?:wrote|read|discard) (\d+)\/\1 bytes at offset /m.test(text);
    if ((moves && !moved) || /^(?![0-9a-f]{8}: ).*(?:failed|not found|invalid|error)/im.test(text)) {
      throw new Error(`qemu-io ${where} "${command}": ${text === '' ? 'no result' : text}`);
    }
    return text;
  }

  close(): void {
    this.#socket.destroy();
  }
}

// ---- QEMU -----------------------------------------------------------------------------------------------

export type Style = 'blockdev' | 'drive';
export type Bus = 'virtio-blk' | 'virtio-scsi' | 'nvme' | 'ide';
export type ImageFormat = 'raw' | 'qcow2';

export interface ChainImage {
  format: ImageFormat;
  path: string;
}

/** A disk with its chain (base first, top last), or a CD drive without a medium. */
export type DiskSpec =
  | { id: string; bus: Bus; chain: readonly ChainImage[]; empty?: never }
  | { id: string; empty: true; bus?: never; chain?: never };

export interface QemuOptions {
  style: Style;
  name?: string;
  uuid?: string;
  disks: readonly DiskSpec[];
  extraArgs?: readonly string[];
  /** The command that starts it, as with descriptors of its own. */
  under?: readonly string[];
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Qemu extends AsyncDisposable {
  readonly style: Style;
  readonly name: string;
  readonly uuid: string;
  readonly pid: number;
  readonly dir: string;
  /** The QMP socket for the product; the admin has one of its own. */
  readonly qmpPath: string;
  readonly admin: Admin;
  /** Settles when the process is gone; never rejects. */
  readonly exited: Promise<Exit>;
  readonly commandLine: readonly string[];
  /** All output of QEMU: its errors, and the results of qemu-io commands. */
  stderr(): string;
}

const comma = (value: string): string => value.replaceAll(',', ',,');

/** The name of a disk's device in query-block. */
export function qdevOf(disk: DiskSpec): string {
  return disk.bus === 'virtio-blk' ? `/machine/peripheral/${disk.id}/virtio-backend` : disk.id;
}

function blockdevArgs(id: string, chain: readonly ChainImage[]): string[] {
  const args: string[] = [];
  for (const [index, { format, path }] of chain.entries()) {
    const node = `${id}-${index}`;
    const file = {
      driver: 'file',
      'node-name': `${node}-file`,
      filename: path,
      'auto-read-only': true,
      discard: 'unmap',
    };
    const image = {
      driver: format,
      'node-name': node,
      file: `${node}-file`,
      'read-only': index < chain.length - 1,
      discard: 'unmap',
      ...(format === 'qcow2' ? { backing: index === 0 ? null : `${id}-${index - 1}` } : {}),
    };
    args.push('-blockdev', JSON.stringify(file), '-blockdev', JSON.stringify(image));
  }
  return args;
}

function diskArgs(disk: DiskSpec, style: Style, nextIde: () => number): string[] {
  const { id } = disk;
  if (disk.empty) {
    const device = `ide-cd,id=${id},bus=ide.${nextIde()}`;
    return style === 'blockdev'
      ? ['-device', device]
      : ['-drive', `if=none,id=drive-${id},media=cdrom`, '-device', `${device},drive=drive-${id}`];
  }
  const top = disk.chain.at(-1);
  if (top === undefined) {
    throw new Error(`disk ${id} has no image`);
  }
  const back =
    style === 'blockdev'
      ? blockdevArgs(id, disk.chain)
      : ['-drive', `if=none,id=drive-${id},file=${comma(top.path)},format=${top.format},discard=unmap`];
  const drive = style === 'blockdev' ? `${id}-${disk.chain.length - 1}` : `drive-${id}`;
  const devices: Record<Bus, () => string[]> = {
    'virtio-blk': () => ['virtio-blk-pci'],
    'virtio-scsi': () => [`virtio-scsi-pci,id=${id}-scsi`, `scsi-hd,bus=${id}-scsi.0`],
    nvme: () => [`nvme,serial=${id}`],
    ide: () => [`ide-hd,bus=ide.${nextIde()}`],
  };
  const front = devices[disk.bus]();
  const last = front.length - 1;
  return [
    ...back,
    ...front.flatMap((device, index) => ['-device', index === last ? `${device},id=${id},drive=${drive}` : device]),
  ];
}

function commandLine(options: QemuOptions, name: string, uuid: string, dir: string): string[] {
  let ide = 0;
  const nextIde = (): number => ide++;
  const fixed = '-machine q35 -accel tcg -m 32 -nodefaults -no-user-config -display none';
  const chardev = (id: string, rest: string): string[] => [
    '-chardev',
    `socket,id=${id},path=${join(dir, id)}.sock${rest}`,
    '-mon',
    `chardev=${id},mode=control`,
  ];
  return [
    ...fixed.split(' '),
    '-name',
    `guest=${comma(name)}`,
    '-uuid',
    uuid,
    ...chardev('qmp', ',server=on,wait=off'),
    ...chardev('admin', ''), // QEMU calls the test, not the other way round: no polling for a socket
    ...options.disks.flatMap((disk) => diskArgs(disk, options.style, nextIde)),
    ...(options.extraArgs ?? []),
  ];
}

/** If setpriv exists, it makes QEMU end together with the test process, however that may end. */
const LEASH = existsSync('/usr/bin/setpriv') ? ['/usr/bin/setpriv', '--pdeathsig', 'KILL'] : [];

/** Starts a QEMU; when this returns, it takes commands on both of its QMP sockets. */
export async function startQemu(options: QemuOptions): Promise<Qemu> {
  await using started = new AsyncDisposableStack();
  const { path: dir } = started.use(await testDir('bj-qemu-'));
  const name = options.name ?? basename(dir);
  const uuid = options.uuid ?? randomUUID();
  const args = commandLine(options, name, uuid, dir);

  const server = createServer();
  const called = Promise.withResolvers<Socket>();
  server.on('connection', called.resolve);
  await once(server.listen(join(dir, 'admin.sock')), 'listening');
  using _ = { [Symbol.dispose]: () => void server.close() };

  const log = join(dir, 'qemu.log');
  const printed = (): string => readFileSync(log, 'utf8');
  const fd = openSync(log, 'a');
  const [program = '', ...rest] = [...LEASH, ...(options.under ?? []), 'qemu-system-x86_64', ...args];
  const child = spawn(program, rest, { stdio: ['ignore', fd, fd] });
  closeSync(fd);
  const exited = new Promise<Exit>((resolve) => {
    child.on('exit', (code, signal) => resolve({ code, signal }));
    child.on('error', () => resolve({ code: null, signal: null }));
  });
  let admin: Admin | undefined;
  started.defer(() => endQemu(child, exited, admin, printed));
  const early = exited.then(({ code, signal }) => {
    throw new Error(`QEMU did not start (${signal ?? code ?? program}): ${printed().trim()}`);
  });
  // QEMU connects before it opens its disks: if it disconnects, its last output says why.
  const connected = called.promise.then((socket) => Admin.connect(socket, printed)).catch(() => early);
  admin = await within(START_MS, 'start of QEMU', Promise.race([connected, early]));
  if (child.pid === undefined) {
    throw new Error('QEMU has no pid');
  }
  const running = started.move();
  return {
    style: options.style,
    name,
    uuid,
    pid: child.pid,
    dir,
    qmpPath: join(dir, 'qmp.sock'),
    admin,
    exited,
    commandLine: args,
    stderr: printed,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

const CRASHES: readonly unknown[] = ['SIGABRT', 'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE'];

/** Ends QEMU; throws if it does not end or has crashed. */
async function endQemu(
  child: ChildProcess,
  exited: Promise<Exit>,
  admin: Admin | undefined,
  printed: () => string,
): Promise<void> {
  const ended = (): Promise<Exit> => within(QUIT_MS, `end of QEMU, pid ${child.pid}`, exited);
  let exit: Exit;
  try {
    if (admin === undefined) {
      throw new Error('QEMU never took a command');
    }
    admin.execute('quit').catch(() => undefined); // one that is hung or gone does not answer; `exited` counts
    exit = await ended();
  } catch {
    child.kill('SIGKILL');
    exit = await ended();
  } finally {
    admin?.close();
  }
  if (CRASHES.includes(exit.signal)) {
    throw new Error(`QEMU has crashed (${exit.signal}): ${printed().trim()}`);
  }
}

// ---- images ---------------------------------------------------------------------------------------------

export interface ChainOptions {
  /** From the base to the top; only the base can be raw. */
  formats: readonly ImageFormat[];
  /** Any number for raw alone; qcow2 needs a multiple of 512. */
  sizeBytes: number;
  /** Chains with different numbers have different contents; false leaves all images empty. Default 1. */
  pattern?: number | false;
  /** The beginning of the file names: prefix-base.qcow2, prefix-snap1.qcow2 ... */
  prefix?: string;
  /** Record the backing files by name only instead of by full path. */
  relative?: boolean;
}

const SECTOR = 512;

/** A sequence of numbers below `limit` that depends only on the seed. */
function numbers(seed: string): (limit: number) => number {
  let count = 0;
  return (limit) => {
    count += 1;
    return createHash('sha256').update(`${seed} ${count}`).digest().readUInt32LE() % limit;
  };
}

/**
 * The writes into one layer: extents of different bytes and of zeroes, at sector (not cluster) borders, random ones (so
 * they overlap those of other layers) and some in fixed places: the image's first and last sectors, and a place that
 * every layer overwrites in part. Nothing touches the sixth eighth of the image.
 */
function layerCommands(sectors: number, layer: number, seed: number): string[] {
  const below = numbers(`${seed} ${layer}`);
  const most = Math.max(1, Math.min(2048, Math.floor(sectors / 24)));
  const hole = { from: Math.floor((sectors * 5) / 8), to: Math.floor((sectors * 6) / 8) };
  const commands: string[] = [];
  const write = (from: number, count: number, how: string): void => {
    const end = Math.min(from + count, sectors);
    if (end > from && (end <= hole.from || from >= hole.to)) {
      commands.push(`write ${how} ${from * SECTOR} ${(end - from) * SECTOR}`);
    }
  };
  const data = (): string => `-P ${1 + below(255)}`;
  for (let index = 0; index < 32; index += 1) {
    const how = [data(), data(), data(), data(), '-z', '-z -u'][below(6)] ?? data();
    write(below(sectors), 1 + below(most), how);
  }
  write(0, 1, data());
  write(sectors - 1, 1, data());
  const shared = Math.floor(sectors / 8);
  write(shared + layer * Math.floor(most / 4), most, data());
  write(shared + Math.floor(most / 2), Math.ceil(most / 8), '-z');
  return commands;
}

/** Creates base <- snap1 <- snap2 ... with different data, zeroes and holes in each. */
export async function makeChain(dir: string, options: ChainOptions): Promise<ChainImage[]> {
  return await likeOneBefore(dir, options, async () => await makeNewChain(dir, options));
}

async function makeNewChain(dir: string, options: ChainOptions): Promise<ChainImage[]> {
  const { formats, sizeBytes, pattern = 1, prefix, relative = false } = options;
  const chain: ChainImage[] = [];
  for (const [layer, format] of formats.entries()) {
    const name = `${layer === 0 ? 'base' : `snap${layer}`}.${format}`;
    const path = join(dir, prefix === undefined ? name : `${prefix}-${name}`);
    const lower = chain.at(-1);
    if (lower !== undefined) {
      const backing = relative ? basename(lower.path) : lower.path;
      await run('qemu-img', ['create', '-q', '-f', format, '-b', backing, '-F', lower.format, path]);
    } else if (format === 'qcow2') {
      await run('qemu-img', ['create', '-q', '-f', format, path, String(sizeBytes)]);
    } else {
      await using file = await open(path, 'wx');
      await file.truncate(sizeBytes);
    }
    chain.push({ format, path });
    const sectors = Math.floor(sizeBytes / SECTOR);
    if (pattern !== false && sectors > 0) {
      const commands = layerCommands(sectors, layer, pattern);
      await run('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), path]);
    }
    if (pattern !== false && format === 'raw' && sizeBytes % SECTOR > 0) {
      await using file = await open(path, 'r+');
      await file.write(Buffer.alloc(sizeBytes % SECTOR, 0xe0 + (pattern % 16)), {
        position: sectors * SECTOR,
      });
    }
  }
  return chain;
}

/** qemu-img compare: whether two images (with their chains) have the same bytes. `live`: a QEMU has them open. */
export async function compareImages(
  a: string,
  aFormat: ImageFormat,
  b: string,
  bFormat: ImageFormat,
  { live = false }: { live?: boolean } = {},
): Promise<{ identical: boolean; text: string }> {
  const args = ['compare', ...(live ? ['-U'] : []), '-f', aFormat, '-F', bFormat, a, b];
  const { code, stdout, stderr } = await run('qemu-img', args, { accept: [0, 1] });
  return { identical: code === 0, text: `${stdout}${stderr}`.trim() };
}

export interface ImageInfo {
  filename: string;
  format: string;
  'virtual-size': number;
  'actual-size': number;
  'cluster-size'?: number;
  'backing-filename'?: string;
  'backing-filename-format'?: string;
  'full-backing-filename'?: string;
}

/** qemu-img info, also of an image that a QEMU has open. */
export async function imageInfo(path: string, format: ImageFormat): Promise<ImageInfo> {
  const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', '-f', format, path]);
  const info: ImageInfo = JSON.parse(stdout);
  return info;
}

/** qemu-img check of a qcow2 image that no QEMU has open. */
export async function qemuImgCheck(path: string): Promise<{ ok: boolean; text: string }> {
  const args = ['check', '-f', 'qcow2', path];
  const { code, stdout, stderr } = await run('qemu-img', args, { accept: [0, 2, 3] });
  return { ok: code === 0, text: `${stdout}${stderr}`.trim() };
}
