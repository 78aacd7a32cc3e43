/** The job that a caller means, out of those that it may read. */
import type { Call } from '../../core/block-jobs.ts';
import { findDisk } from '../../core/disk/chain.ts';
import { fail, failure } from '../../core/errors.ts';
import type { JobRef } from '../../core/requests.ts';
import { mayRead, notThere } from '../../core/rights.ts';
import { openedLog } from '../journal/ended-job.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import type { JobTable } from './job-table.ts';

export interface JobsKnown {
  readonly jobs: JobTable;
  readonly machines: VirtualMachines;
}

/** A job by its id, or the active job of a disk, or that disk's latest one. Throws JOB_NOT_FOUND or DISK_HAS_NO_JOB. */
export async function findJob(ref: JobRef, call: Call, { jobs, machines }: JobsKnown): Promise<JobLog> {
  if ('jobId' in ref) return await jobOfId(ref.jobId, call, jobs);
  const { domain, disk: address } = ref.disk;
  const machine = machines.get(domain, call);
  const qdev = await machine.asking(async () => findDisk(await machine.graph(), address)?.qdev);
  if (qdev === undefined) fail('DISK_NOT_FOUND', { domain, disk: address });
  // A VM may have had another name during a job.
  const onDisk = jobs.onDevice(machine, qdev, jobs.known.newestFirst).filter((log) => mayRead(call, log.job));
  const found = onDisk.find((log) => !log.ended) ?? onDisk[0];
  return await openedLog(found ?? fail('DISK_HAS_NO_JOB', { domain, disk: address }));
}

async function jobOfId(job: string, call: Call, jobs: JobTable): Promise<JobLog> {
  const readable = () => {
    const log = jobs.known.get(job);
    return log !== undefined && mayRead(call, log.job) ? log : undefined;
  };
  // Also for a domain that exists and that the caller may not read: the time of the answer must not differ.
  if (readable() === undefined) await jobs.complete();
  const found = readable();
  if (found !== undefined) return await openedLog(found);
  return notThere(failure('JOB_NOT_FOUND', { job }), call, jobs.known.get(job)?.job.accepted.domain);
}
