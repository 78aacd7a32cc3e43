/**
 * A guest that writes, a service that is killed again and again, callers who all want something else of the jobs on
 * several disks at once, and others who meddle with QEMU. After each round what the service says must be true: block
 * by block; and nobody was kept waiting.
 *
 *   disk 1:   ─round─►─round──────►─round─►
 *   disk 2:   ─round────►─round─►─round────►
 *   killer:   ···✂·······✂······✂···✂·····✂····✂·····✂···
 *   watchers: every revision of every job, once and in order, through all of that
 */
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Lane } from '../../src/lib/lane.ts';
import { graphOf, labelOf } from '../support/checks.ts';
import { canMount, smallFileSystem } from '../support/images/small-file-system.ts';
import { PercentTraces } from '../support/observers/percent-traces.ts';
import { Random } from '../support/random.ts';
import { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { Admin, testDir } from '../support/real-qemu/qemu.ts';
import { canSeeLess, HIDEPID, OTHER_UID, PID_NAMESPACE } from '../support/real-qemu/sights.ts';
import { ALLOWED_NBD } from './destination.ts';
import { DISK_MIB, DiskRounds, type Tally } from './disk-rounds.ts';
import { FormatTurns } from './format-turns.ts';
import { Killer } from './killer.ts';
import { LiveDisk } from './live-disk.ts';
import { Meddler } from './meddler.ts';
import type { Bus } from './plan.ts';
import { Waits } from './waits.ts';
import { Verdict, WrongOutcome } from './wrong.ts';

const DOMAIN = 'chaos';
const DISKS: readonly { readonly id: number; readonly bus: Bus }[] = [
  { id: 1, bus: 'virtio' },
  { id: 2, bus: 'nvme' },
  { id: 3, bus: 'virtio' },
];
/** Streams that only write: then each point in time of a disk can be distinguished from every other. */
export const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.batch=4 gw.rate=2';
/** No copy of a disk fits there. A guest that is pivoted to it would have the same problem. */
const TIGHT_MIB = 1;
const JOURNALS = 6;

interface Parts {
  readonly folder: string;
  readonly vm: GuestVm;
  readonly admin: Admin;
  readonly killer: Killer;
  readonly meddler: Meddler;
  readonly verdict: Verdict;
  readonly waits: Waits;
  readonly rounds: readonly DiskRounds[];
  readonly tally: Tally;
}

export class Chaos implements AsyncDisposable {
  readonly killer: Killer;
  readonly meddler: Meddler;
  readonly waits: Waits;
  readonly tally: Tally;
  readonly #parts: Parts;
  readonly #open: AsyncDisposableStack;

  private constructor(parts: Parts, open: AsyncDisposableStack) {
    this.killer = parts.killer;
    this.meddler = parts.meddler;
    this.waits = parts.waits;
    this.tally = parts.tally;
    this.#parts = parts;
    this.#open = open;
  }

  static async start(seed: number, say: (line: string) => void): Promise<Chaos> {
    await using open = new AsyncDisposableStack();
    const { path: folder } = open.use(await testDir('bj-chaos-'));
    const disks = DISKS.map(({ id, bus }) => `id=${id},chain=2,size=${DISK_MIB}M,bus=${bus}`);
    const vm = open.use(await GuestVm.start({ disks, append: LOAD, name: DOMAIN }));
    const admin = open.adopt(await Admin.connect(connect(vm.checkerQmpPath), () => ''), (one) => one.close());
    const tight = canMount() ? open.use(await smallFileSystem(folder, TIGHT_MIB)).path : undefined;
    const verdict = new Verdict();
    const waits = new Waits(admin);
    const killer = open.use(
      await Killer.start({
        random: new Random(seed),
        verdict,
        waits,
        domain: DOMAIN,
        vmFolder: vm.dir,
        service: { dir: folder, qmp: { [DOMAIN]: vm.qmpPath }, allow: [folder, vm.dir, ALLOWED_NBD] },
        sights: canSeeLess() ? [PID_NAMESPACE, PID_NAMESPACE, HIDEPID, OTHER_UID] : [],
      }),
    );
    const turns = new FormatTurns();
    const meddler = new Meddler({ admin, pid: vm.pid, waits, killer, turns });
    const shared = {
      vm,
      admin,
      killer,
      meddler,
      verdict,
      waits,
      say,
      tight,
      domain: DOMAIN,
      turns,
      console: new Lane(),
    };
    const tally: Tally = {
      rounds: 0,
      events: 0,
      helped: 0,
      traces: new PercentTraces(),
      ends: new Map(),
      leaks: new Set(),
    };
    const rounds: DiskRounds[] = [];
    for (const { id, bus } of DISKS) {
      const own = join(folder, `disk${id}`);
      await mkdir(own);
      const random = new Random(seed * 31 + id);
      const disk = new LiveDisk({ ...shared, id, bus, folder: own });
      rounds.push(open.use(new DiskRounds({ ...shared, random, disk, tally })));
    }
    return new Chaos({ folder, vm, admin, killer, meddler, verdict, waits, rounds, tally }, open.move());
  }

  /** Runs the rounds of all disks in parallel, until it is enough; the last round of each disk runs to its end. */
  async run(isEnough: () => boolean): Promise<void> {
    const { killer, meddler, verdict, rounds } = this.#parts;
    killer.begin();
    const lanes = rounds.map(async (disk) => {
      while (!isEnough()) {
        verdict.check();
        await disk.round();
      }
    });
    await Promise.all(
      lanes.map(async (lane) => {
        await lane.catch((error: unknown) => verdict.found(error));
      }),
    );
    await killer.end();
    verdict.check();
    killer.noComplaints();
    await meddler.expectRunning('in the end');
    await this.#nothingIsLeft();
  }

  async #nothingIsLeft(): Promise<void> {
    const { jobs, nodes } = await graphOf(this.#parts.admin);
    const { leaks } = this.tally;
    const filters = nodes.filter(
      (node) => / (mirror_top|commit_top|copy-on-read) /.test(node) && !leaks.has(labelOf(node)),
    );
    if (jobs.length + filters.length > 0) throw new WrongOutcome(`QEMU still has ${[...jobs, ...filters].join()}`);
  }

  /** For a person who wants to know why it failed. */
  async report(): Promise<string> {
    const { admin, folder, killer, rounds, vm } = this.#parts;
    const commands = ['query-status', 'query-jobs', 'query-block-jobs'];
    const answers = await Promise.all(commands.map(async (command) => await admin.execute(command).catch(String)));
    const jobs = join(folder, 'state', 'jobs');
    const names = await readdir(jobs).catch(() => []);
    const times = await Promise.all(
      names.map(async (name) => ({ name, timeMs: (await stat(join(jobs, name))).mtimeMs })),
    );
    const newest = times.toSorted((a, b) => b.timeMs - a.timeMs).slice(0, JOURNALS);
    const journals = await Promise.all(
      newest.map(async ({ name }) => `${name}\n${await readFile(join(jobs, name), 'utf8').catch(String)}`),
    );
    const now = rounds.map((disk) => `now: ${disk.now}`);
    const output = `The output of QEMU: ${vm.qemuLog}`;
    return [...now, output, ...answers.map((answer) => JSON.stringify(answer)), ...journals, killer.log].join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // With a leak QEMU would end in an assertion.
    if (this.tally.leaks.size > 0) await this.#parts.vm.kill();
    await this.#open.disposeAsync();
  }
}
