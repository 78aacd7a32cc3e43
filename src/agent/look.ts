/** What QEMU says of one job, asked at one moment. */
import type { Job } from '../core/job.ts';
import type { DeviceOn } from '../core/journal-entry.ts';
import type { Seen } from '../core/next-move.ts';
import { isLive } from '../core/qemu/guest-state.ts';
import type { QemuBlockJob } from '../core/qemu/replies.ts';
import { guestOf } from './migration.ts';
import { isAlive, isSame } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** Undefined: QEMU cannot be asked now, and may well be alive. */
export async function look(
  job: Job,
  machine: VirtualMachine | undefined,
  onBlockJobs: (blockJobs: readonly QemuBlockJob[]) => void,
): Promise<Seen | undefined> {
  const { accepted } = job;
  if (accepted.process !== undefined && !(await isAlive(accepted.process))) {
    return { qemu: 'ENDED', devicePath: undefined };
  }
  if (machine?.identity === undefined) return undefined;
  // Another process under the same name, as while a guest migrates: it knows nothing of this job.
  const { facts } = machine.identity;
  if (accepted.process !== undefined && facts !== undefined && !isSame(accepted.process, facts.process))
    return undefined;
  const at = new Date().toISOString();
  const [jobs, blockJobs, guest] = await Promise.all([machine.jobs(), machine.blockJobs(), guestOf(machine)]);
  onBlockJobs(blockJobs);
  const listed = jobs.find((one) => one.id === accepted.job);
  const blockJob = blockJobs.find((one) => one.id === accepted.job);
  const found = listed ?? (accepted.kind === 'PULL' ? await endedPull(job, machine) : undefined);
  const runs = listed !== undefined && listed.status !== 'concluded';
  // Where the device is matters when the job is over, and the graph is much to ask for at every event.
  const place = runs ? { deviceOn: 'SOURCE' as const, devicePath: undefined } : await deviceOn(job, machine);
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
      begun: found.endBytes > 0 || !['created', 'running'].includes(found.status),
    },
    ...place,
    guestRuns: mayRun(guest.runState, job.guestHeld),
    guestMigrates: guest.migration !== undefined,
  };
}

/** One that sleeps may be woken at any moment; held, it is still: QEMU before 9.0 leaves it `suspended` then. */
function mayRun(runState: string, isHeld: boolean): boolean {
  return isLive(runState) && !(isHeld && runState === 'suspended');
}

/**
 * QEMU does not keep the result of a stream: what it did is in the chain, and why it did not, in its event. Undefined:
 * the chain is as it was, and nobody heard why.
 */
async function endedPull({ accepted }: Job, machine: VirtualMachine) {
  const ended = { status: 'concluded', endBytes: 1 } as const;
  const { nodes, children } = await machine.graph();
  const below = children.get(accepted.source.node)?.find(({ edge }) => edge === 'backing')?.node;
  const isPulled = nodes.has(accepted.source.node) && below === accepted.baseNode;
  const error = machine.heardEnds.errorOf(accepted.job);
  // The chain is another one before QEMU has written it into the header, which may fail.
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
  // Somebody may have put a snapshot on top since.
  const found = chain.find(({ node }) => node === destination?.node || node === source.node)?.node;
  const on = found === undefined ? 'ELSEWHERE' : found === source.node ? 'SOURCE' : 'DESTINATION';
  return { deviceOn: on, devicePath };
}
