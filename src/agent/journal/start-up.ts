/**
 * The jobs of an earlier agent: every journal in the state folder, oldest job first. A file that is not a journal, or a
 * second journal of a job, is logged, stays where it is, and does not keep the others from being read.
 */
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { hasEnded } from '../../core/job/job.ts';
import type { ClockStamp } from '../../core/job/journal-entry.ts';
import { oldestFirst } from '../../core/job/known-job.ts';
import { isJobId } from '../../core/job/names.ts';
import { withSmallYoungSpace } from '../../lib/heap.ts';
import { SharedTexts } from '../host/shared-texts.ts';
import { EndedJob, toldIn } from './ended-job.ts';
import { JobLog, type Journals } from './job-log.ts';
import type { ReadJournal } from './journal.ts';
import { nameAfterJob, readJournals, removeJournal } from './journal-folder.ts';
import { type Indexed, JournalIndex, stampOf } from './journal-index.ts';

/** The job of a file: only the facts that are always needed if it has ended. */
interface Story {
  readonly id: string;
  readonly told: EndedJob | ReadJournal;
}

/** A job that has not ended. */
interface OpenStory extends Story {
  readonly told: ReadJournal;
  readonly clock: ClockStamp | undefined;
}

export interface OpenedJobs {
  readonly jobs: readonly (JobLog | EndedJob)[];
  /** Makes the next start faster. A failure is logged. Calls can be served meanwhile. */
  readonly saveIndex: () => Promise<void>;
}

export async function openJobs(journals: Journals, logger: Logger): Promise<OpenedJobs> {
  return await withSmallYoungSpace(async () => await open(journals, logger));
}

async function open(journals: Journals, logger: Logger): Promise<OpenedJobs> {
  const { folder, clock } = journals;
  const tell = (id: string, err: unknown) => logger.error({ file: `${id}.jsonl`, err }, 'A journal cannot be used');
  const stories = new Map<string, Story[]>();
  const names = new Set<string>();
  const texts = new SharedTexts();
  const index = await JournalIndex.read(dirname(folder), texts);
  const found: (Indexed | OpenStory)[] = [];
  for await (const file of readJournals(folder, (id, look) => index.find(id, look))) {
    names.add(file.id);
    if ('told' in file) {
      found.push(file);
      continue;
    }
    const { id, read, stats } = file;
    if (read instanceof Error) tell(id, read);
    else if (read === undefined) await forget(folder, id).catch((error: unknown) => tell(id, error));
    else if (!isJobId(read.job.accepted.job)) tell(id, new Error('its job has an id that is not ours'));
    else if (stats !== undefined && hasEnded(read.job))
      found.push({ id, stamp: stampOf(stats), told: texts.share(toldIn(read)), clock: lastStamp(read) });
    else {
      clock.isAfter(read.entries.at(-1)?.position ?? 0);
      found.push({ id, told: read, clock: lastStamp(read) });
    }
  }
  for (const { clock: stamp } of found) if (stamp !== undefined) clock.learn(stamp);
  const indexed: Indexed[] = [];
  const remember = (one: Indexed): Story => {
    const dated = withEnd(one, clock.startedMs);
    indexed.push(dated);
    return { id: dated.id, told: new EndedJob(journals, dated.told) };
  };
  for (const one of found) {
    const { job } = one.told.job.accepted;
    stories.set(job, [...(stories.get(job) ?? []), 'stamp' in one ? remember(one) : one]);
  }
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
  const saveIndex = async () => {
    await withSmallYoungSpace(async () => await index.save(indexed)).catch((err: unknown) =>
      logger.warn({ err }, 'The index of journals cannot be written'),
    );
  };
  return { jobs: oldestFirst(jobs), saveIndex };
}

/** For a job whose journal has no time on this clock: when its end was first found, as the index remembers. */
function withEnd(one: Indexed, nowMs: number): Indexed {
  const { told } = one;
  return told.job.endedMs === undefined ? { ...one, told: { ...told, job: { ...told.job, endedMs: nowMs } } } : one;
}

function lastStamp({ entries }: ReadJournal): ClockStamp | undefined {
  return entries.findLast(({ clock }) => clock !== undefined)?.clock;
}

/** The job was never accepted: nothing was done for it, and its caller got no answer. */
async function forget(folder: string, id: string): Promise<void> {
  if (!isJobId(id)) throw new Error('it has no job');
  await removeJournal(folder, id);
}

/**
 * The id in a journal decides, and the file with that name. A journal under another name may be an older copy, without
 * actions that were done since: it counts, and is renamed, only if it is the only one.
 */
function theOne(job: string, told: readonly Story[], names: ReadonlySet<string>): Story | undefined {
  const own = told.find(({ id }) => id === job);
  if (own !== undefined || names.has(job)) return own;
  return told.length === 1 ? told[0] : undefined;
}
