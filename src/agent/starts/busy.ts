/** The job on a disk: ours, by our journals, or another client's, by QEMU's list. */
import type { BlockGraph, Disk } from '../../core/disk/chain.ts';
import { BlockJobError, type Failure, failure } from '../../core/errors.ts';
import { writtenBy } from '../../core/job/job-facts.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import { fileKey } from '../files/files.ts';
import type { JobTable } from '../job/job-table.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';

export interface BusySite {
  readonly machine: VirtualMachine;
  readonly table: JobTable;
  /** All jobs that QEMU lists. */
  readonly jobs: readonly QemuJob[];
}

/** A job that keeps others away. */
export interface Busy {
  readonly why: Failure;
  /** As QEMU has it. */
  readonly job: string;
  /** Undefined: another client's. */
  readonly ours: JobLog | undefined;
}

/** BLOCK_COPY_ACTIVE while a copy is on the disk, BLOCK_JOB_ACTIVE while another job is. */
export function busyOn(disk: Disk, { machine, table, jobs }: BusySite): Busy | undefined {
  const at = { domain: machine.name, disk: disk.id };
  const ours = table.activeOn(machine, disk.qdev);
  if (ours !== undefined) {
    const { job, kind } = ours.job.accepted;
    const isCopying = kind === 'COPY' || kind === 'ACTIVE_COMMIT';
    return { why: failure(isCopying ? 'BLOCK_COPY_ACTIVE' : 'BLOCK_JOB_ACTIVE', { ...at, job }), job, ours };
  }
  const [job] = disk.blockJobs;
  if (job === undefined) return undefined;
  const isCopying = isCopy(jobs.find(({ id }) => id === job));
  return { why: failure(isCopying ? 'BLOCK_COPY_ACTIVE' : 'BLOCK_JOB_ACTIVE', { ...at, job }), job, ours };
}

/** Throws the error of a busy disk. */
export function refuseBusyDisk(disk: Disk, site: BusySite): void {
  const busy = busyOn(disk, site);
  if (busy !== undefined) throw new BlockJobError(busy.why);
}

/** As busyOn for every disk; and CHAIN_BUSY for each other job, which is on an image further down in a chain. */
export function allBusy(graph: BlockGraph, site: BusySite): readonly Busy[] {
  const on = graph.disks.flatMap((disk) => busyOn(disk, site) ?? []);
  const isBelow = ({ id, type, status }: QemuJob) =>
    BLOCK_JOBS.has(type) && status !== 'concluded' && !on.some(({ job }) => job === id);
  const domain = site.machine.name;
  const below = site.jobs.filter(isBelow).map(({ id: job }) => ({ why: failure('CHAIN_BUSY', { domain, job }), job }));
  return [...on, ...below.map((one) => ({ ...one, ours: undefined }))];
}

const BLOCK_JOBS: ReadonlySet<string> = new Set(['mirror', 'commit', 'stream', 'backup']);

/** A commit that becomes ready is an active one: it mirrors, and ends by pivot or abort as a copy does. */
function isCopy(job: QemuJob | undefined): boolean {
  const twoPhases = job?.status === 'ready' || job?.status === 'standby';
  return job?.type === 'mirror' || (job?.type === 'commit' && twoPhases);
}

/** The job that writes this file or device now, under any name. */
export async function writerOf(path: string, logs: readonly JobLog[]): Promise<JobLog | undefined> {
  const key = await fileKey(path);
  for (const log of logs) {
    const other = log.ended ? undefined : writtenBy(log.job.accepted);
    if (other === undefined) continue;
    // By name, too: the file may be made between the two looks.
    if (other === path || (await fileKey(other)) === key) return log;
  }
  return undefined;
}
