/** Who of us writes to a file. */
import { writtenBy } from '../core/job-facts.ts';
import { fileKey } from './files.ts';
import type { JobLog } from './job-log.ts';

/** The job that writes this file or device now, whatever the names of it. */
export async function writerOf(path: string, logs: readonly JobLog[]): Promise<string | undefined> {
  const key = await fileKey(path);
  for (const { ended, job } of logs) {
    const other = ended ? undefined : writtenBy(job.accepted);
    if (other === undefined) continue;
    // By name too: it may be made between the two looks.
    if (other === path || (await fileKey(other)) === key) return `job ${job.accepted.job}`;
  }
  return undefined;
}
