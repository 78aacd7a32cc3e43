/**
 * What an agent finds of its former self: every journal in the state folder, oldest job first. What is no journal there, or
 * is one twice, is told, stays where it is, and keeps nobody from the rest.
 */
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { hasEnded } from '../core/job.ts';
import type { ClockStamp } from '../core/journal-entry.ts';
import type { KnownJob } from '../core/known-job.ts';
import { isJobId } from '../core/plans/names.ts';
import { withSmallYoungSpace } from '../lib/heap.ts';
import { EndedJob, toldIn } from './ended-job.ts';
import { JobLog, type Journals } from './job-log.ts';
import type { ReadJournal } from './journal.ts';
import { nameAfterJob, readJournals, removeJournal } from './journal-folder.ts';
import { type Indexed, JournalIndex, stampOf } from './journal-index.ts';

/** What a file tells: of a job that has ended no more than is to be known of it at any moment. */
interface Story {
  readonly id: string;
  readonly told: EndedJob | ReadJournal;
}

export async function openJobs(journals: Journals, log: Logger): Promise<readonly (JobLog | EndedJob)[]> {
  return await withSmallYoungSpace(async () => await open(journals, log));
}

async function open(journals: Journals, log: Logger): Promise<readonly (JobLog | EndedJob)[]> {
  const { folder, clock } = journals;
  const tell = (id: string, err: unknown) => log.error({ file: `${id}.jsonl`, err }, 'this file cannot be used');
  const stories = new Map<string, Story[]>();
  const names = new Set<string>();
  const index = await JournalIndex.read(dirname(folder));
  const indexed: Indexed[] = [];
  const learn = ({ id, told, clock: stamp }: Indexed) => {
    if (stamp !== undefined) clock.learn(stamp);
    const { job } = told.job.accepted;
    stories.set(job, [...(stories.get(job) ?? []), { id, told: new EndedJob(journals, told) }]);
  };
  for await (const found of readJournals(folder, (id, stats) => index.find(id, stats))) {
    names.add(found.id);
    if ('told' in found) {
      indexed.push(found);
      learn(found);
      continue;
    }
    const { id, read, stats } = found;
    if (read instanceof Error) tell(id, read);
    else if (read === undefined) await forget(folder, id).catch((error: unknown) => tell(id, error));
    else if (!isJobId(read.job.accepted.job)) tell(id, new Error('its job has no id of ours'));
    else if (stats !== undefined && hasEnded(read.job)) {
      const told = { id, stamp: stampOf(stats), told: toldIn(read), clock: lastStamp(read) };
      indexed.push(told);
      learn(told);
    } else {
      const stamp = lastStamp(read);
      if (stamp !== undefined) clock.learn(stamp);
      stories.set(read.job.accepted.job, [...(stories.get(read.job.accepted.job) ?? []), { id, told: read }]);
    }
  }
  await index.save(indexed).catch((err: unknown) => log.warn({ err }, 'the next start will have to read each journal'));
  const jobs: (JobLog | EndedJob)[] = [];
  for (const [job, all] of stories) {
    const one = theOne(job, all, names);
    for (const { id } of all.filter((other) => other !== one)) tell(id, new Error(`a second journal of job ${job}`));
    if (one === undefined) continue;
    try {
      if (one.id !== job) await nameAfterJob(folder, one.id, job);
      jobs.push(one.told instanceof EndedJob ? one.told : await JobLog.reopen(journals, one.told));
    } catch (error) {
      tell(one.id, error);
    }
  }
  return jobs.toSorted((a, b) => byAge(a.job, b.job));
}

function lastStamp({ entries }: ReadJournal): ClockStamp | undefined {
  return entries.findLast(({ clock }) => clock !== undefined)?.clock;
}

/** The host's clock may have gone back between two jobs: it counts only where neither tells more. */
function byAge(a: KnownJob, b: KnownJob): number {
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
function theOne(job: string, told: readonly Story[], names: ReadonlySet<string>): Story | undefined {
  const own = told.find(({ id }) => id === job);
  if (own !== undefined || names.has(job)) return own;
  return told.length === 1 ? told[0] : undefined;
}
