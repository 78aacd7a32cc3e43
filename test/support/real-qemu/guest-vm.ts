/**
 * VMs with the guest of test/guest-rig: it writes blocks, and a checker outside knows each byte that must be on disk.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { PYTHON } from '../means.ts';
import { type ChainImage, type ImageFormat, isRunning, run, type Style, testDir, within } from './qemu.ts';

const RIG = join(import.meta.dirname, '../../guest-rig');
const BUILD_MS = 600_000;
const START_MS = 120_000;
const STOP_MS = 60_000;

/** The folder of the guest, which make-guest.sh can also build without this. */
const GUEST_DIR = join(import.meta.dirname, '../../../.cache/guest');

let building: Promise<unknown> | undefined;

/** Builds the guest, if necessary; any number of test processes can call it at the same time. */
export async function ensureGuest(): Promise<string> {
  building ??= run(join(RIG, 'make-guest.sh'), [GUEST_DIR], { timeoutMs: BUILD_MS });
  await building;
  return GUEST_DIR;
}

export interface GuestVmOptions {
  /** Specifications of vm.py: 'id=1,chain=3,size=64M', 'id=2,fmt=raw,bus=scsi' ... */
  disks: readonly string[];
  style?: Style;
  /** Settings of the guest on its kernel command line (see gwinit.c): 'gw.mode=rand gw.rate=5'. */
  append?: string;
  name?: string;
  uuid?: string;
  machine?: 'q35' | 'pc';
  extraArgs?: readonly string[];
  /** The folder of its files, which stay; by default, a temporary directory of its own. */
  dir?: string;
}

export interface CheckOptions {
  /** The image to check; without it the disk's first top image. */
  image?: string;
  format?: ImageFormat;
  /** The image is open in a running QEMU. */
  live?: boolean;
  /** Only writes that were acknowledged before the first line of the guest's log that starts with this. */
  until?: string;
  /** With `until`: later writes of the guest are right, too. */
  allowNewer?: boolean;
  /** I/O errors that the guest has seen are not failures. */
  allowErrors?: boolean;
}

/** The result of check-disk.py: counts of 4 KiB blocks, unless stated otherwise. */
export interface CheckResult {
  /** Nothing is lost, the guest has read nothing wrong, and it has seen no I/O error (unless allowed). */
  ok: boolean;
  lost: number;
  blocks: number;
  data: number;
  zero: number;
  in_flight: number;
  stale: number;
  missing: number;
  torn: number;
  garbage: number;
  misplaced: number;
  foreign: number;
  residue: number;
  newer: number;
  outside: number;
  short: number;
  disk: number;
  /** Operations that the guest has seen completed and flushed. */
  acked_ops: number;
  guest_errors: number;
  guest_bad_reads: number;
  seconds: number;
  /** The first wrong blocks, in words. */
  text: string;
}

/** check-disk.py on any image; throws when the check itself is impossible. */
export async function checkDisk(
  manifest: string,
  log: string,
  image: string,
  format: ImageFormat,
  options: Omit<CheckOptions, 'image' | 'format'> = {},
): Promise<CheckResult> {
  const { live = false, until, allowNewer = false, allowErrors = false } = options;
  const args = ['--json', '--manifest', manifest, '--acked', log, '--format', format];
  args.push(...(live ? ['--live'] : []), ...(until === undefined ? [] : ['--until', until]));
  args.push(...(allowNewer ? ['--allow-newer'] : []), ...(allowErrors ? ['--allow-errors'] : []), image);
  const { stdout, stderr } = await run(PYTHON, [join(RIG, 'check-disk.py'), ...args], { accept: [0, 1] });
  const result: Omit<CheckResult, 'text'> = JSON.parse(stdout);
  return { ...result, text: stderr.trim() };
}

/** check-disk.py's proof that it can fail: returns its lines, one for each case; throws when a case fails. */
export async function checkerSelfTest(): Promise<string[]> {
  const { stdout } = await run(PYTHON, [join(RIG, 'check-disk.py'), '--self-test']);
  return stdout.trim().split('\n');
}

/** The measurements of the guest since the last mark, per disk: worst write and flush in microseconds ... */
export interface Mark {
  t: number;
  ops: number;
  kb: number;
  wmax: number;
  fmax: number;
  inflight: number;
}

interface Facts {
  pid: number;
  name: string;
  uuid: string;
  accel: string;
  disks: { id: number; manifest: string; images: ChainImage[] }[];
}

export class GuestVm implements AsyncDisposable {
  readonly dir: string;
  readonly style: Style;
  readonly pid: number;
  readonly name: string;
  readonly uuid: string;
  readonly accel: string;
  /** The QMP socket for the product, and the one for the test itself. */
  readonly qmpPath: string;
  readonly checkerQmpPath: string;
  /** The guest's log. */
  readonly logPath: string;
  /** Settles when QEMU is gone, with its status (negative: a signal); null when that is not known. */
  readonly exited: Promise<number | null>;
  readonly #facts: Facts;
  readonly #keeper: ChildProcess;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    dir: string,
    style: Style,
    facts: Facts,
    keeper: ChildProcess,
    exited: Promise<number | null>,
    resources: AsyncDisposableStack,
  ) {
    this.dir = dir;
    this.style = style;
    this.pid = facts.pid;
    this.name = facts.name;
    this.uuid = facts.uuid;
    this.accel = facts.accel;
    this.qmpPath = join(dir, 'qmp.sock');
    this.checkerQmpPath = join(dir, 'qmp2.sock');
    this.logPath = join(dir, 'guest.log');
    this.exited = exited;
    this.#facts = facts;
    this.#keeper = keeper;
    this.#resources = resources;
  }

  /** Makes the images, starts QEMU and waits until the guest has found all its disks. */
  static async start(options: GuestVmOptions): Promise<GuestVm> {
    const guest = await ensureGuest();
    await using started = new AsyncDisposableStack();
    const dir = options.dir ?? started.use(await testDir('bj-vm-')).path;
    const { style = 'blockdev', append = '', name, uuid, machine = 'q35', extraArgs = [] } = options;
    const args = ['attach', dir, '--guest', guest, '--style', style, '--machine', machine, `--append=${append}`];
    args.push(...options.disks.flatMap((disk) => ['--disk', disk]));
    args.push(...(name === undefined ? [] : ['--name', name]), ...(uuid === undefined ? [] : ['--uuid', uuid]));
    args.push('--', ...extraArgs);

    // vm.py stays while the VM runs and holds it: when its standard input ends, also because this process ends, it ends
    // QEMU.
    const keeper = spawn(PYTHON, [join(RIG, 'vm.py'), ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let complaints = '';
    keeper.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints += text;
    });
    keeper.stdin.on('error', () => undefined); // it has ended: `closed` says so
    const lines: string[] = [];
    const first = Promise.withResolvers<string>();
    createInterface({ input: keeper.stdout }).on('line', (line) => {
      lines.push(line);
      first.resolve(line);
    });
    const closed = once(keeper, 'close');
    const exited = closed.then(
      () => {
        const { status }: { status?: number } = JSON.parse(lines.at(-1) ?? '{}');
        return status ?? null;
      },
      () => null,
    );
    const qemuLog = join(dir, 'qemu.log');
    started.defer(() => endKeeper(keeper, exited, qemuLog));
    const early = exited.then(() => {
      throw new Error(`the VM did not start: ${complaints.trim()}\n${readLog(qemuLog)}`);
    });
    const facts: Facts = JSON.parse(await within(START_MS, 'start of the VM', Promise.race([first.promise, early])));
    return new GuestVm(dir, style, facts, keeper, exited, started.move());
  }

  #disk(id: number): Facts['disks'][number] {
    const disk = this.#facts.disks.find((one) => one.id === id);
    if (disk === undefined) {
      throw new Error(`${this.name} has no disk ${id}`);
    }
    return disk;
  }

  /** The first images of the disk, base first. */
  images(diskId: number): ChainImage[] {
    return this.#disk(diskId).images;
  }

  /** The contents of the disk at the start, for check-disk.py. */
  manifest(diskId: number): string {
    return this.#disk(diskId).manifest;
  }

  /** The device's id (-device ...,id=) of a disk. */
  deviceId(diskId: number): string {
    return `disk${this.#disk(diskId).id}`;
  }

  async #vm(verb: string, ...args: string[]): Promise<string> {
    const { stdout } = await run(PYTHON, [join(RIG, 'vm.py'), verb, this.dir, ...args], {
      timeoutMs: 60_000,
    });
    return stdout;
  }

  /**
   * Sends a line to the guest's console (see gwinit.c), and returns its answer; throws if the guest reports an error.
   */
  async command(line: string): Promise<string[]> {
    return (await this.#vm('cmd', line)).trim().split('\n');
  }

  /** Stops all writers after a flush; when this returns, all their writes are acknowledged. */
  async pause(): Promise<void> {
    await this.#vm('pause').catch(async (cause: unknown) => {
      throw new Error(`${this.name} does not come to rest:\n${await this.#vm('report')}`, { cause });
    });
  }

  async resume(): Promise<void> {
    await this.command('go');
  }

  /** Puts a mark into the log (check with until: 'M NAME '). Returns the measurements since the last mark, by disk. */
  async mark(name: string): Promise<Map<number, Mark>> {
    const marks: Record<string, Mark> = JSON.parse(await this.#vm('mark', name));
    return new Map(Object.entries(marks).map(([id, mark]) => [Number(id), mark]));
  }

  /** The output of QEMU: its warnings, and the assertion that has ended it. */
  get qemuLog(): string {
    return readLog(join(this.dir, 'qemu.log'));
  }

  /** The guest's log up to now, in whole lines. */
  log(): string[] {
    return readLog(this.logPath).split('\n').slice(0, -1);
  }

  /** The number of I/O errors that the guest has seen. */
  ioErrors(): number {
    return this.log().filter((line) => line.startsWith('E ')).length;
  }

  /** The last operation of a disk's stream that is written, flushed and acknowledged; 0 before the first. */
  acknowledged(diskId: number, stream = 0): number {
    const start = `A ${diskId} ${stream} `;
    const last = this.log().findLast((line) => line.startsWith(start));
    return last === undefined ? 0 : Number(last.slice(start.length));
  }

  /** Waits until each of the disk's streams has this many more operations on disk than now. */
  async work(diskId: number, operations: number, { streams = 1, timeoutMs = 60_000 } = {}): Promise<void> {
    const all = Array.from({ length: streams }, (_, stream) => stream);
    const goals = all.map((stream) => this.acknowledged(diskId, stream) + operations);
    const until = Date.now() + timeoutMs;
    while (all.some((stream) => this.acknowledged(diskId, stream) < (goals[stream] ?? 0))) {
      if (Date.now() > until || !isRunning(this.pid)) {
        const why = await this.#vm('report');
        throw new Error(`${this.name} does not write ${operations} more operations to disk ${diskId}:\n${why}`);
      }
      await sleep(20);
    }
  }

  /** A block whose last acknowledged operation is a write of the guest, without an open operation. */
  async writtenBlock(diskId: number): Promise<number> {
    const script = `
import sys
sys.path.insert(0, sys.argv[1])
from gwlib import load_state
state = load_state(sys.argv[2], sys.argv[3])
print(next(b for b in range(state.blocks) if state.sure[b] >> 32 and b not in state.maybe))`;
    const { stdout } = await run(PYTHON, ['-c', script, RIG, this.manifest(diskId), this.logPath]);
    return Number(stdout);
  }

  /** Whether everything that was acknowledged to the guest is on the image. */
  async check(diskId: number, options: CheckOptions = {}): Promise<CheckResult> {
    const { manifest, images } = this.#disk(diskId);
    const { image, format, ...rest } = options;
    const top = images.at(-1);
    if (top === undefined || (image === undefined) !== (format === undefined)) {
      throw new Error('an image needs its format');
    }
    return checkDisk(manifest, this.logPath, image ?? top.path, format ?? top.format, rest);
  }

  /** Quits QEMU by QMP, or kills it by its pid. */
  async stop(): Promise<void> {
    this.#keeper.stdin?.end();
    await within(STOP_MS, `end of ${this.name}`, this.exited);
  }

  /** SIGKILL, like a power cut of the VM (the host's page cache survives). */
  async kill(): Promise<void> {
    this.#keeper.stdin?.write('kill\n');
    await within(STOP_MS, `end of ${this.name}`, this.exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function readLog(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, as Python reports them. */
const CRASHES: readonly unknown[] = [-6, -7, -8, -4, -11];

async function endKeeper(keeper: ChildProcess, exited: Promise<number | null>, qemuLog: string): Promise<void> {
  keeper.stdin?.end();
  try {
    const status = await within(STOP_MS, `end of a VM's keeper, pid ${keeper.pid}`, exited);
    if (CRASHES.includes(status)) {
      // The first line is its command line.
      const last = readLog(qemuLog).trim().split('\n').slice(1).slice(-10).join('\n');
      throw new Error(`QEMU has crashed (signal ${-(status ?? 0)}), and said:\n${last}`);
    }
  } finally {
    keeper.kill('SIGKILL'); // if it is still there; QEMU ends with it
  }
}
