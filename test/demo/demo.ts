/**
 * `make demo`: the disk of a running VM is copied to a new file and the guest moved to it, through gRPC, while
 * the guest writes; then it is proved that nothing was lost. Exit code 0 only if it was.
 *
 *   node test/demo/demo.ts [--keep]     --keep: VM and service stay until Ctrl-C, to be tried by hand
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DestinationContent, type Job, Job_State, JobEvent_Kind, OnReady } from '../../generated/blockjob/v1/job.ts';
import { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';
import { type Evidence, hashOf, plantLoss, prove } from './proof.ts';
import { Screen } from './screen.ts';
import { linesToTry } from './try-next.ts';

const MIB = 1024 * 1024;
const DOMAIN = 'demo';
const DISK = 'disk1';
const SIZE_MIB = 256;
const LIMIT_MIB = 40;
const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rate=6 gw.rd=10';
/** The guest continues on the new disk for this number of operations: some seconds. */
const OPERATIONS_AFTER = 1500;

/** If a signal ended the VM or the service, it comes to the demo within this time. */
const CTRL_C_MS = 2000;

const STATE_WORDS: Partial<Record<Job_State, string>> = {
  [Job_State.STATE_STARTING]: 'STARTING   the job is written down, and QEMU is being asked',
  [Job_State.STATE_RUNNING]: 'RUNNING    QEMU has accepted it; the guest goes on writing to the old disk',
  [Job_State.STATE_READY]: 'READY      both sides are equal; from now on each write goes to both',
  [Job_State.STATE_PIVOTING]: 'PIVOTING   QEMU is asked to move the guest over',
  [Job_State.STATE_COMPLETED]: 'COMPLETED  the guest is on the new disk; the old one is closed',
  [Job_State.STATE_FAILED]: 'FAILED',
  [Job_State.STATE_CANCELLED]: 'CANCELLED',
  [Job_State.STATE_UNRESOLVED]: 'UNRESOLVED',
};

interface Demo {
  readonly screen: Screen;
  readonly folder: string;
  /** These end all started programs, the last one first. */
  readonly open: AsyncDisposableStack;
  readonly keep: boolean;
  readonly loss: boolean;
}

/** Throws unless everything is proved. */
async function story(demo: Demo): Promise<void> {
  const { screen, folder, open, keep } = demo;
  await buildGuest(open);
  screen.restart();

  screen.step('Start a VM with a Linux guest that keeps writing to its disk');
  const vm = await opened(
    open,
    GuestVm.start({
      dir: join(folder, 'vm'),
      name: DOMAIN,
      disks: [`id=1,chain=3,size=${SIZE_MIB}M`],
      append: LOAD,
    }),
  );
  const version = /version (\S+)/.exec((await run('qemu-system-x86_64', ['--version'])).stdout)?.[1];
  screen.line(
    `QEMU ${version} with ${vm.accel === 'kvm' ? 'KVM' : 'TCG (there is no KVM that works)'}, process ${vm.pid}`,
  );
  screen.line(`its disk of ${SIZE_MIB} MiB is a chain of qcow2 images: base <- snap1 <- snap2`);
  await vm.work(1, 200);
  screen.line('every block that the guest writes says which write it is from, so each can be checked');

  screen.step('Start the service');
  const service = await opened(open, startService(demo, vm));
  await service.domainUp(DOMAIN);
  screen.line(`blockjobd serves on ${service.address}, process ${service.pid}; it sees domain ${DOMAIN}`);

  screen.step('StartCopy, and WatchJob until READY');
  const destination = { path: join(folder, 'new.qcow2'), format: 'qcow2' } as const;
  const { id } = await service.startCopy({
    disk: { domain: DOMAIN, disk: DISK },
    destination: { target: { $case: 'file', value: destination.path } },
    bandwidthBytesPerSecond: BigInt(LIMIT_MIB * MIB),
    granularityBytes: 4096n, // the guest writes small blocks at random: nothing is copied again but these
    onReady: OnReady.ON_READY_HOLD,
  });
  screen.line(`job ${id}: ${DISK} to ${destination.path}, at most ${LIMIT_MIB} MiB/s`);
  const pivoted = await watchAndPivot(demo, vm, service, id);

  screen.step('Let the guest go on writing to the new disk');
  await vm.work(1, OPERATIONS_AFTER);
  screen.line(`${OPERATIONS_AFTER} more operations acknowledged`);

  screen.step(`${keep ? 'Pause the guest' : 'Stop the VM'}, and prove that nothing was lost`);
  await vm.pause();
  if (!keep) await vm.stop();
  const evidence = { vm, disk: 1, destination, hashes: pivoted.hashes, live: keep };
  if (demo.loss) screen.line(`(planted: block ${await plantLoss(evidence)} of the new image is zeroed now)`);
  await judge(screen, evidence);

  screen.step('The service reports the copy: GetInfo');
  const { outcome } = await service.getInfo(id);
  screen.line(`guest_writes_to      ${outcome?.guestWritesTo}`);
  const content = outcome?.destinationContent ?? DestinationContent.DESTINATION_CONTENT_UNSPECIFIED;
  screen.line(`destination_content  ${nameOf(DestinationContent, content)}`);
  for (const { path, warning } of outcome?.safeToDelete ?? [])
    screen.line(`safe_to_delete       ${path}\n  ${warning}`);
  for (const { text } of outcome?.evidence ?? []) screen.line(`evidence             ${text}`);
  if (outcome?.guestWritesTo !== destination.path || content !== DestinationContent.DESTINATION_CONTENT_COMPLETE) {
    throw new Error('the outcome is not what was proved');
  }

  screen.plain(`\nPROVED in ${screen.seconds.toFixed(0)} s: the guest moved to the new disk and lost nothing.`);
  screen.plain(`The longest that it waited for one write around the pivot: ${pivoted.worstWriteMs} ms.`);
  screen.plain(linesToTry({ address: service.address, domain: DOMAIN, disk: DISK, folder, kept: keep }));
  if (keep) {
    await vm.resume();
    await new Promise<never>(() => undefined); // until a signal
  }
}

/** The data that the check needs besides the disk, and the cost of the pivot for the guest. */
interface Pivoted {
  readonly hashes: ReadonlyMap<string, string>;
  readonly worstWriteMs: string;
}

async function watchAndPivot({ screen }: Demo, vm: GuestVm, service: Service, id: string): Promise<Pivoted> {
  let pivoting: Promise<Pivoted> | undefined;
  let shown: Job_State | undefined;
  for await (const { kind, job, detail } of service.watch(id, 0)) {
    if (job === undefined) continue;
    if (kind === JobEvent_Kind.KIND_PROGRESS && shown === Job_State.STATE_RUNNING && job.progress) {
      screen.progress(job.progress);
    }
    if (job.state === shown) continue;
    shown = job.state;
    if (shown === Job_State.STATE_PIVOTING) screen.step('Abort with pivot');
    screen.line(STATE_WORDS[shown] ?? detail);
    if (shown === Job_State.STATE_READY) {
      pivoting = pivot(vm, service, id);
      pivoting.catch(() => undefined); // it is awaited when the watch has ended
    }
  }
  if (pivoting === undefined)
    throw new Error(`the job ended without READY: ${(await service.getInfo(id)).error?.message}`);
  return await pivoting;
}

async function pivot(vm: GuestVm, service: Service, id: string): Promise<Pivoted> {
  await vm.work(1, 100);
  await vm.mark('ready');
  const job: Job = await service.abort({ job: { name: { $case: 'jobId', value: id } }, pivot: true });
  if (job.state !== Job_State.STATE_COMPLETED) throw new Error(`the job is ${nameOf(Job_State, job.state)}`);
  const old = vm.images(1).map(({ path }) => path);
  const hashes = new Map(await Promise.all(old.map(async (path) => [path, await hashOf(path)] as const)));
  const worst = (await vm.mark('pivoted')).get(1)?.wmax ?? Number.NaN;
  return { hashes, worstWriteMs: (worst / 1000).toFixed(0) };
}

async function judge(screen: Screen, evidence: Evidence): Promise<void> {
  let wrong = 0;
  for await (const { ok, text } of prove(evidence)) {
    screen.line(`${ok ? 'ok  ' : 'FAIL'} ${text.replaceAll('\n', '\n     ')}`);
    if (!ok) wrong += 1;
  }
  if (wrong > 0) throw new Error(`${wrong} of the proofs above failed`);
}

async function startService({ folder, keep, open }: Demo, vm: GuestVm): Promise<Service> {
  const options = { dir: folder, qmp: { [DOMAIN]: vm.qmpPath }, allow: [folder] };
  const anyPort = { ...options, listen: '127.0.0.1:0' };
  const service = keep
    ? await Service.start({ ...options, listen: '127.0.0.1:50051' }).catch(() => Service.start(anyPort))
    : await Service.start(anyPort);
  open.defer(async () => await writeFile(join(folder, 'blockjobd.log'), service.log));
  return service;
}

/** Builds the guest, if necessary. It prints its own downloads. */
async function buildGuest(open: AsyncDisposableStack): Promise<void> {
  const script = join(import.meta.dirname, '../guest-rig/make-guest.sh');
  // A process group of its own: ended together with all that it has started.
  const child = spawn(script, { detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = once(child, 'exit');
  open.defer(() => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) process.kill(-child.pid);
  });
  const [code] = await ended;
  if (code !== 0) throw new Error(`${script} has failed`);
}

/** If the demo ends during a start, the started program ends, too. */
async function opened<T extends AsyncDisposable>(open: AsyncDisposableStack, starting: Promise<T>): Promise<T> {
  open.defer(async () => await (await starting.catch(() => undefined))?.[Symbol.asyncDispose]());
  return await starting;
}

function nameOf(names: Readonly<Record<string, unknown>>, value: number): string {
  return Object.keys(names).find((name) => names[name] === value) ?? String(value);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { keep: { type: 'boolean', default: false }, 'plant-loss': { type: 'boolean', default: false } },
  });
  const signalled = Promise.withResolvers<number>();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => signalled.resolve(128 + constants.signals[signal]));
  }
  const screen = new Screen();
  const folder = await mkdtemp(join(tmpdir(), 'bj-demo-'));
  const open = new AsyncDisposableStack();
  const demo: Demo = { screen, folder, open, keep: values.keep, loss: values['plant-loss'] };
  let code: number;
  let trouble: unknown;
  try {
    code = await Promise.race([story(demo).then(() => 0), signalled.promise]);
  } catch (error) {
    // A Ctrl-C goes to the VM and the service too, and their end may be noticed first.
    code = await Promise.race([signalled.promise, setTimeout(CTRL_C_MS, 1)]);
    if (code === 1) trouble = error;
  }
  if (code > 1) screen.plain('\nEnding the VM and the service.');
  screen.mute();
  await open.disposeAsync().catch((error: unknown) => {
    [code, trouble] = [1, trouble ?? error];
  });
  if (code === 1) {
    console.error(`\nNOT PROVED: ${trouble instanceof Error ? trouble.message : String(trouble)}`);
    console.error(`Kept for a look: ${folder} (blockjobd.log, vm/guest.log, vm/qemu.log, the images)`);
  } else {
    await rm(folder, { recursive: true });
  }
  return code;
}

process.exitCode = await main();
