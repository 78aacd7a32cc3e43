/** QEMU's state of one job, asked at one moment. */

import { type Failure, failure } from '../../core/errors.ts';
import { whatFailed } from '../../core/job/ending.ts';
import type { HeaderOnDisk } from '../../core/job/handover.ts';
import { handoverOf } from '../../core/job/handover-of.ts';
import type { Job } from '../../core/job/job.ts';
import { imageWritten } from '../../core/job/job-facts.ts';
import type { Accepted, DeviceOn } from '../../core/job/journal-entry.ts';
import { isOfJob } from '../../core/job/names.ts';
import type { QemuProcess } from '../../core/job/qemu-identity.ts';
import type { Seen } from '../../core/moves/moves.ts';
import { isLive } from '../../core/qemu/guest-state.ts';
import type { QemuBlockJob } from '../../core/qemu/replies.ts';
import { timestamp } from '../../lib/clock.ts';
import type { StableStorage } from '../files/stable-storage.ts';
import { isUnreachable, qemuFailure } from '../qemu/failures.ts';
import { isSameMonitor } from '../qemu/qemu-monitor.ts';
import { compareProcesses, processPresence } from '../qemu/qemu-process.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { type Guest, guestOf } from './migration.ts';

/** The common input of a job's looks. */
export interface Looker {
  /** The process in the journal, and the process that was seen from here, which may be another namespace. */
  readonly processes: QemuProcess[];
  readonly onBlockJobs: (blockJobs: readonly QemuBlockJob[]) => void;
  /** Reads from disk. */
  readonly storage: StableStorage;
}

export async function look(job: Job, machine: VirtualMachine | undefined, looker: Looker): Promise<Seen> {
  try {
    if (machine?.identity === undefined)
      return (await hasQemuEnded(looker)) ? await whatIsLeft(job, looker, machine) : { qemu: 'SILENT' };
    return await ask(job, machine, looker);
  } catch (error) {
    // A connection lost during a look has shown nothing.
    if (!isUnreachable(error)) throw error;
    return { qemu: 'SILENT' };
  }
}

/** If one of these processes is proved to have ended, QEMU has: they are the same. */
async function hasQemuEnded({ processes }: Looker): Promise<boolean> {
  const found = await Promise.all(processes.map(processPresence));
  return found.includes('ENDED');
}

async function whatIsLeft(job: Job, looker: Looker, machine: VirtualMachine | undefined): Promise<Seen> {
  // A failed start has not written a header.
  const header = job.state === 'STARTING' ? undefined : await headerOf(job, looker, machine);
  return { qemu: 'ENDED', ...(header && { header }) };
}

async function headerOf(
  { accepted }: Job,
  { storage }: Looker,
  machine: VirtualMachine | undefined,
): Promise<HeaderOnDisk | undefined> {
  const handover = handoverOf(accepted);
  return handover && (await storage.readBack(handover, accepted.named ?? [], machine));
}

async function ask(job: Job, machine: VirtualMachine, looker: Looker): Promise<Seen> {
  const { accepted } = job;
  const at = timestamp();
  const [jobs, blockJobs, guest] = await Promise.all([machine.jobs(), machine.blockJobs(), guestOf(machine)]);
  looker.onBlockJobs(blockJobs);
  const listed = jobs.find((one) => one.id === accepted.job);
  const blockJob = blockJobs.find((one) => one.id === accepted.job);
  const found = listed ?? (accepted.kind === 'PULL' ? await endedPull(job, machine) : undefined);
  const process = machine.identity?.facts?.process;
  const isKnown = await isIts(machine, accepted, looker);
  if (!isKnown) {
    const is = await whatElse(job, machine, looker, { isDone: found !== undefined, guest });
    if (is !== 'UP') return is === 'ENDED' ? await whatIsLeft(job, looker, undefined) : { qemu: is };
  } else if (process !== undefined) {
    if (!looker.processes.some((one) => compareProcesses(one, process) === 'SAME')) looker.processes.push(process);
  }
  const runs = listed !== undefined && listed.status !== 'concluded';
  // The image of the device matters when the job is over, and the graph costs too much to ask at every event.
  const place = runs ? { deviceOn: 'SOURCE' as const, devicePath: undefined } : await deviceOn(job, machine);
  // Another client may have moved the guest there, and dismissed the job; or another QEMU may have started there.
  const isProved = isKnown || place.deviceOn !== 'DESTINATION';
  // Before everything is flushed it proves nothing.
  const header = !runs && job.flushed === 'HEADER' ? await headerOf(job, looker, machine) : undefined;
  return {
    qemu: 'UP',
    at,
    job: found && {
      status: found.status,
      error: found.error,
      ioStatus: blockJob?.ioStatus ?? 'ok',
      paused: blockJob?.paused ?? false,
      speedBytesPerSecond: blockJob?.speedBytesPerSecond ?? job.bandwidthBytesPerSecond,
      remainingBytes: blockJob === undefined ? 0 : Math.max(0, blockJob.lengthBytes - blockJob.offsetBytes),
      copiedBytes: blockJob?.offsetBytes ?? 0,
      begun: found.endBytes > 0 || !['created', 'running'].includes(found.status),
    },
    ...place,
    ...(isProved ? {} : { deviceOn: 'ELSEWHERE' }),
    ...(header && { header }),
    guestRuns: mayRun(guest.runState, job.guestHeld),
    guestMigrates: guest.migration !== undefined,
  };
}

/** A sleeping guest may wake up at any moment, unless it is held: QEMU before 9.0 leaves it `suspended` then. */
function mayRun(runState: string, isHeld: boolean): boolean {
  return isLive(runState) && !(isHeld && runState === 'suspended');
}

/**
 * Whether this QEMU runs the job, or ran it: it has the job, or a node of the job, or is the process that was seen with
 * it, or the one at the monitor of its begin. The ids of jobs are random, so /proc need not agree. A commit leaves only
 * nodes with names of the VM's own, which another QEMU of the VM may have as well.
 */
async function isIts(machine: VirtualMachine, { job, monitor }: Accepted, { processes }: Looker): Promise<boolean> {
  if (machine.has(job)) return true;
  const { facts, monitor: shown } = machine.identity ?? {};
  const compared = new Set(processes.map((one) => compareProcesses(one, facts?.process)));
  const isSame = compared.has('SAME') || (!compared.has('OTHER') && isSameMonitor(monitor, shown));
  const hasNode = async () => [...(await machine.graph()).nodes.keys()].some((node) => isOfJob(node, job));
  if (!isSame && !(await hasNode())) return false;
  // From now on it is known, for as long as the connection lasts.
  machine.expect(job);
  return true;
}

/** A QEMU with the VM's UUID or name, and nothing of the job, while its process is not known. */
async function whatElse(
  job: Job,
  machine: VirtualMachine,
  { processes }: Looker,
  { isDone, guest }: { readonly isDone: boolean; readonly guest: Guest },
): Promise<Seen['qemu']> {
  const { accepted, state, concluded } = job;
  const presences = await Promise.all(processes.map(processPresence));
  if (presences.includes('ENDED')) return 'ENDED';
  // QEMU keeps neither job nor node of a pull: its result is in the chain.
  if (isDone) return 'UP';
  // The job's own QEMU lives. Or this is the one that its guest migrates to, which has the same name.
  if (presences.includes('UP') || guest.migration !== undefined) return 'SILENT';
  // The absence of the job proves nothing before QEMU was seen to run it, nor once its result is written down: then it
  // may be dismissed, and the nodes that a commit leaves have names of the VM's own.
  if (accepted.kind === 'PULL' || state === 'STARTING' || concluded !== undefined) return 'UP';
  // Another QEMU of the VM starts on the source, unless somebody knew that the guest had left it.
  return (await deviceOn(job, machine)).deviceOn === 'DESTINATION' ? 'UP' : 'ENDED';
}

/**
 * QEMU does not keep the result of a stream: its effect is in the chain, and its error was in an event. Undefined if
 * the chain has not changed and no error was heard.
 */
async function endedPull({ accepted }: Job, machine: VirtualMachine) {
  const ended = { status: 'concluded', endBytes: 1 } as const;
  const { nodes, children } = await machine.graph();
  const below = children.get(accepted.source.node)?.find(({ edge }) => edge === 'backing')?.node;
  const isPulled = nodes.has(accepted.source.node) && below === accepted.baseNode;
  const error = machine.heardEnds.errorOf(accepted.job);
  // The chain changes before QEMU has written the header, which may fail.
  return isPulled || error !== undefined ? { ...ended, error } : undefined;
}

async function deviceOn(
  { accepted: { source, destination, qdev } }: Job,
  machine: VirtualMachine,
): Promise<{ deviceOn: DeviceOn; devicePath: string | undefined }> {
  const { disks } = await machine.graph();
  const chain = disks.find((disk) => disk.qdev === qdev)?.chain ?? [];
  const devicePath = chain[0]?.path;
  if (devicePath === undefined) return { deviceOn: 'NOWHERE', devicePath };
  // A snapshot may have been taken on top since.
  const found = chain.find(({ node }) => node === destination?.node || node === source.node)?.node;
  const on = found === undefined ? 'ELSEWHERE' : found === source.node ? 'SOURCE' : 'DESTINATION';
  return { deviceOn: on, devicePath };
}

/** The known state of a job's QEMU at a look. */
export interface Up {
  readonly is: 'up';
  readonly machine: VirtualMachine;
}

export type Presence =
  | Up
  /** It is not known: its part of the job is left to it. */
  | { readonly is: 'silent' }
  /** It is proved to have ended: nothing is left in it. */
  | { readonly is: 'ended' };

export function presenceSeen({ qemu }: Seen, machine: VirtualMachine | undefined): Presence {
  if (qemu === 'ENDED') return { is: 'ended' };
  return qemu === 'UP' && machine !== undefined ? { is: 'up', machine } : { is: 'silent' };
}

/** Every step was done, but no mirror runs: QEMU's error of the job, before it is dismissed. */
export async function whyFailedAtOnce({ accepted }: Job, qemu: Presence): Promise<Failure> {
  const { job: id, domain } = accepted;
  if (qemu.is !== 'up') return failure('JOB_LOST', { job: id, why: 'QEMU ended during the start' });
  const { machine } = qemu;
  const job = (await machine.jobs()).find((one) => one.id === id);
  const error = job?.error ?? machine.heardEnds.errorOf(id);
  const { doing } = whatFailed(accepted, machine.heardEnds.failedTo(id));
  if (error === undefined) return failure('JOB_LOST', { job: id, why: 'it was gone before its end was seen' });
  return qemuFailure('GenericError', error, { domain, path: imageWritten(accepted), doing });
}
