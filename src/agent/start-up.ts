/**
 * What an agent finds of its former self: every journal in the state folder, oldest job first. What is no journal there, or
 * is one twice, is told, stays where it is, and keeps nobody from the rest.
 */
import type { Logger } from 'pino';
import { hasEnded, type Job } from '../core/job.ts';
import { isJobId } from '../core/plans/names.ts';
import { JobLog, type Journals } from './job-log.ts';
import type { ReadJournal } from './journal.ts';
import { type FoundJournal, nameAfterJob, readJournals, removeJournal } from './journal-folder.ts';

interface Story {
  readonly id: string;
  readonly read: ReadJournal;
}

export async function openJobs(journals: Journals, log: Logger): Promise<readonly JobLog[]> {
  const { folder, clock } = journals;
  const found = await readJournals(folder);
  const tell = (id: string, err: unknown) => log.error({ file: `${id}.jsonl`, err }, 'this file cannot be used');
  const stories = new Map<string, Story[]>();
  for (const { id, read } of found) {
    if (read instanceof Error) tell(id, read);
    else if (read === undefined) await forget(folder, id).catch((error: unknown) => tell(id, error));
    else if (!isJobId(read.job.accepted.job)) tell(id, new Error('its job has no id of ours'));
    else stories.set(read.job.accepted.job, [...(stories.get(read.job.accepted.job) ?? []), { id, read }]);
  }
  const logs: JobLog[] = [];
  for (const [job, told] of stories) {
    const one = theOne(job, told, found);
    for (const { id } of told.filter((other) => other !== one)) tell(id, new Error(`a second journal of job ${job}`));
    if (one === undefined) continue;
    for (const { clock: stamp } of one.read.entries) if (stamp !== undefined) clock.learn(stamp);
    try {
      if (one.id !== job) await nameAfterJob(folder, one.id, job);
      logs.push(hasEnded(one.read.job) ? JobLog.ended(journals, one.read) : await JobLog.reopen(journals, one.read));
    } catch (error) {
      tell(one.id, error);
    }
  }
  return logs.toSorted((a, b) => byAge(a.job, b.job));
}

/** The host's clock may have gone back between two jobs: it counts only where neither tells more. */
function byAge(a: Job, b: Job): number {
  return (a.beganMs ?? -1) - (b.beganMs ?? -1) || a.createTime.localeCompare(b.createTime);
}

/** The job was never accepted: nothing was done for it, and its caller got no answer. */
async function forget(folder: string, id: string): Promise<void> {
  if (!isJobId(id)) throw new Error('it holds no job');
  await removeJournal(folder, id);
}

/**
 * The id in a journal decides, and the file of that name. Another one may be older, and what it does not tell may have
 * been done: it counts only where it is the only one, and was renamed.
 */
function theOne(job: string, told: readonly Story[], found: readonly FoundJournal[]): Story | undefined {
  const own = told.find(({ id }) => id === job);
  if (own !== undefined || found.some(({ id }) => id === job)) return own;
  return told.length === 1 ? told[0] : undefined;
}
