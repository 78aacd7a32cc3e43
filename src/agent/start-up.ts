/** What an agent finds of its former self: every journal in the state folder, oldest job first. */
import type { Logger } from 'pino';
import { hasEnded } from '../core/job.ts';
import type { Observer } from '../lib/observer.ts';
import { JobLog } from './job-log.ts';
import { readJournals, removeJournal } from './journal.ts';

export async function openJobs(folder: string, log: Logger, observer?: Observer): Promise<readonly JobLog[]> {
  const logs: JobLog[] = [];
  for (const { id, read } of await readJournals(folder)) {
    // The file stays: what it still tells is for a person to read.
    if (read instanceof Error) log.error({ job: id, err: read }, 'the journal of this job cannot be used');
    // The job was never accepted: nothing was done for it, and its caller got no answer.
    else if (read === undefined) await removeJournal(folder, id);
    else logs.push(hasEnded(read.job) ? JobLog.ended(read) : await JobLog.reopen(folder, read, observer));
  }
  return logs.toSorted((a, b) => a.job.createTime.localeCompare(b.job.createTime));
}
