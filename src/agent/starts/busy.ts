/** The job on a disk: ours, by our journals, or another client's, by QEMU's list. */
import type { BlockGraph, Disk } from '../../core/disk/chain.ts';
import { fail } from '../../core/errors.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import type { JobTable } from '../job/job-table.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';

export interface BusySite {
  readonly machine: VirtualMachine;
  readonly table: JobTable;
  /** All jobs that QEMU lists. */
  readonly jobs: readonly QemuJob[];
}

/** Throws BLOCK_COPY_ACTIVE while a copy is on the disk, BLOCK_JOB_ACTIVE while another job is. */
export function refuseBusyDisk(disk: Disk, { machine, table, jobs }: BusySite): void {
  const ours = table.activeOn(machine, disk.qdev)?.job.accepted;
  const job = ours?.job ?? disk.blockJobs[0];
  if (job === undefined) return;
  const isOurCopy = ours?.kind === 'COPY' || ours?.kind === 'ACTIVE_COMMIT';
  const isCopying = ours === undefined ? isCopy(jobs.find(({ id }) => id === job)) : isOurCopy;
  fail(isCopying ? 'BLOCK_COPY_ACTIVE' : 'BLOCK_JOB_ACTIVE', { domain: machine.name, disk: disk.id, job });
}

/** Like refuseBusyDisk for every disk; throws CHAIN_BUSY for a job on an image further down in a chain. */
export function refuseBusyDomain(graph: BlockGraph, site: BusySite): void {
  for (const disk of graph.disks) refuseBusyDisk(disk, site);
  const below = site.jobs.find(({ type, status }) => BLOCK_JOBS.has(type) && status !== 'concluded');
  if (below === undefined) return;
  fail('CHAIN_BUSY', { domain: site.machine.name, job: below.id });
}

const BLOCK_JOBS: ReadonlySet<string> = new Set(['mirror', 'commit', 'stream', 'backup']);

/** A commit that becomes ready is an active one: it mirrors, and ends by pivot or abort as a copy does. */
function isCopy(job: QemuJob | undefined): boolean {
  const twoPhases = job?.status === 'ready' || job?.status === 'standby';
  return job?.type === 'mirror' || (job?.type === 'commit' && twoPhases);
}
