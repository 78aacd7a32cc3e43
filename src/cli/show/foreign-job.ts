/** Jobs of other clients, in words. */
import type { ForeignJob } from '../../client/index.ts';
import { table } from './table.ts';

const HEADING = ['FOREIGN JOB', 'DISK', 'KIND', 'STATUS', 'PROGRESS', 'BEGUN BY'];

/** Nothing if there are none. */
export function foreignInWords(jobs: readonly ForeignJob[]): string[] {
  if (jobs.length === 0) return [];
  return ['', 'Jobs of other clients, which only those clients can end:', ...table(HEADING, jobs.map(row))];
}

function row(job: ForeignJob): string[] {
  const { domain = '?', disk = '' } = job.disk ?? {};
  const status = job.error === '' ? job.status : `${job.status}: ${job.error}`;
  const by = job.managedByLibvirt ? 'libvirt, most likely' : 'another client';
  return [job.id, disk === '' ? domain : `${domain}/${disk}`, job.kind, status, percentOf(job), by];
}

function percentOf({ current, end }: ForeignJob): string {
  return end === 0n ? '' : `${((Number(current) / Number(end)) * 100).toFixed(1)} %`;
}
