/**
 * Checks that a completed job is on disk. The images of the job are on storage whose power can be cut, and its service
 * is killed now and then. When the job has ended, the power is cut at once, and QEMU and the service die with it. Then
 * the outcome is compared with the disk. Each round has a VM of its own.
 */

import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { DestinationContent, type Job, Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { Lane } from '../../src/lib/lane.ts';
import { FragileFileSystem } from '../support/images/power-cut.ts';
import { PercentTraces } from '../support/observers/percent-traces.ts';
import type { Random } from '../support/random.ts';
import { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { AckedByTime, momentOf } from '../support/real-qemu/moments.ts';
import { Admin, type ChainImage, testDir, within } from '../support/real-qemu/qemu.ts';
import { Callers } from './callers.ts';
import { newFile } from './destination.ts';
import { FormatTurns } from './format-turns.ts';
import { Killer } from './killer.ts';
import { LiveDisk } from './live-disk.ts';
import { type Kind, type Plan, planOfCut } from './plan.ts';
import { Waits } from './waits.ts';
import { Verdict, WrongOutcome } from './wrong.ts';

const DOMAIN = 'cut';
const DISK = 1;
const SIZE_MIB = 16;
/** Room for a chain, a copy, and their metadata. */
const ROOM_MIB = 160;
/** A round that runs longer is stuck. */
const ROUND_MS = 300_000;
const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.batch=4 gw.rate=2';

/** One a round, all of them in turn; the power of the guest's own disk is cut, except for copies. */
export const CUTS: readonly { readonly what: Kind; readonly onReady: OnReady }[] = [
  { what: 'copy', onReady: OnReady.ON_READY_FINISH },
  { what: 'pull', onReady: OnReady.ON_READY_HOLD },
  { what: 'copy', onReady: OnReady.ON_READY_PIVOT },
  { what: 'commit', onReady: OnReady.ON_READY_HOLD },
  { what: 'active commit', onReady: OnReady.ON_READY_HOLD },
];

export interface Cut {
  readonly end: string;
  readonly kills: number;
}

interface World extends AsyncDisposable {
  readonly fs: FragileFileSystem;
  readonly vm: GuestVm;
  readonly killer: Killer;
  readonly callers: Callers;
  readonly disk: LiveDisk;
  readonly top: ChainImage;
}

export async function cutRound(random: Random, { what, onReady }: (typeof CUTS)[number]): Promise<Cut> {
  await using world = await begin(random, planOfCut(random, what, onReady));
  const { fs, vm, killer, callers, disk } = world;
  using acked = new AckedByTime(vm, DISK);
  await disk.work(acked, 32);
  const destination = newFile(fs.path, 'copy', random.of(['raw', 'qcow2']));
  await fs.sync();
  killer.begin();
  const job = await within(ROUND_MS, `a round of its own, ${what}`, live());
  await fs.cut();
  const to = acked.sequence;
  const { outcome, state } = job;
  const isElsewhere = what === 'copy' && outcome?.guestWritesTo !== destination.name;
  // The later writes of the guest identify the point in time of a copy.
  if (isElsewhere) await disk.work(acked, 16);
  await vm.kill();
  await killer.end();
  await killer.service.kill();
  await fs.restore();
  const copy = what === 'copy' ? destination.image : undefined;
  await expectTrue(world, job, { acked, to, copy });
  const [name = ''] = Object.entries(Job_State).find(([, value]) => value === state) ?? [];
  return { end: `${what}, then the power is cut: ${name.replace('STATE_', '')}`, kills: killer.kills };

  async function live(): Promise<Job> {
    killer.enters(DISK, 'STARTING');
    for (let attempt = 0; ; attempt += 1) {
      const started = await callers.start(`cut-${attempt}`, destination);
      // A service that is killed during a start undoes it.
      if (typeof started === 'string') {
        await rm(destination.image.path, { force: true });
        continue;
      }
      killer.enters(DISK, 'RUNNING');
      await callers.steer(started.id);
      return await callers.end(started.id);
    }
  }
}

async function begin(random: Random, plan: Plan): Promise<World> {
  await using open = new AsyncDisposableStack();
  const { path: folder } = open.use(await testDir('bj-cut-'));
  const fs = open.use(await FragileFileSystem.make(folder, ROOM_MIB));
  const where = plan.what === 'copy' ? '' : `,dir=${fs.path}`;
  const disks = [`id=${DISK},chain=3,size=${SIZE_MIB}M${where}`];
  const vm = open.use(await GuestVm.start({ disks, append: LOAD, name: DOMAIN }));
  const admin = open.adopt(await Admin.connect(connect(vm.checkerQmpPath), () => ''), (one) => one.close());
  const verdict = new Verdict();
  const service = { dir: folder, qmp: { [DOMAIN]: vm.qmpPath }, allow: [fs.path] };
  const parts = { random, verdict, waits: new Waits(admin), domain: DOMAIN, vmFolder: vm.dir, service, sights: [] };
  const killer = open.use(await Killer.start(parts));
  const turns = new FormatTurns();
  const disk = new LiveDisk({
    vm,
    admin,
    id: DISK,
    bus: 'virtio',
    domain: DOMAIN,
    folder: fs.path,
    console: new Lane(),
    turns,
  });
  const callers = new Callers({ random, killer, verdict, disk, turns, plan, traces: new PercentTraces() });
  const { images } = await disk.chain();
  const world = open.move();
  const dispose = async () => await world.disposeAsync();
  return { fs, vm, killer, callers, disk, top: images[0], [Symbol.asyncDispose]: dispose };
}

interface Seen {
  readonly acked: AckedByTime;
  readonly to: number;
  readonly copy: ChainImage | undefined;
}

/**
 * The disk has lost nothing that the guest knows to be written, and a copy shows the point in time that the outcome
 * says.
 */
async function expectTrue({ vm, top }: World, job: Job, { acked, to, copy }: Seen): Promise<void> {
  const { outcome, state } = job;
  // The service claims nothing about it.
  if (state === Job_State.STATE_UNRESOLVED) return;
  for (const { path } of outcome?.safeToDelete ?? []) await rm(path, { force: true });
  const isOn = outcome?.guestWritesTo ?? '';
  const image = isOn === top.path ? top : isOn === copy?.path ? copy : { path: isOn, format: 'qcow2' as const };
  const { lost, text } = await vm.check(DISK, { image: image.path, format: image.format, allowErrors: true });
  if (lost > 0) throw new WrongOutcome(`after a power cut ${image.path} of job ${job.id} has lost blocks: ${text}`);
  const isCopy = outcome?.destinationContent === DestinationContent.DESTINATION_CONTENT_COMPLETE;
  if (copy === undefined || !isCopy || outcome.asOf === undefined) return;
  await momentOf(vm, DISK, copy, { from: acked.at(outcome.asOf), to });
}
