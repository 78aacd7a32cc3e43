/** The job of ours that writes to a file. */
import { writtenBy } from '../../core/job/job-facts.ts';
import { fileKey } from '../files/files.ts';
import type { JobLog } from '../journal/job-log.ts';

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
