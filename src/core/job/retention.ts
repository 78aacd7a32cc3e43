/** Which jobs that have ended are remembered, and for how long. */
import { hasEnded } from './job.ts';
import type { KnownJob } from './known-job.ts';
import { LaterJobs } from './later-jobs.ts';
import { namesOfKnown } from './used-file.ts';

export interface Retention {
  /** Longer ago, and a job is forgotten. */
  readonly days: number;
  /** No more than so many ended jobs; but none of the last day is forgotten. */
  readonly jobs: number;
  /** So many of those that may have left something over, the newest ones, are kept in any case, and no more. */
  readonly leftovers: number;
}

const DAY_MS = 86_400_000;

/**
 * Those to be forgotten, of all jobs, oldest first. `nowMs` is by the clock of the state folder, which nobody can set: of jobs
 * whose older journals do not tell when they ended by it, it counts from when they were first found. A request id is good for a day at least, and what a job has left over is
 * told by its journal. One that has changed what an older one says is kept with that: alone, the older one would be believed.
 */
export function toForget(
  jobs: readonly KnownJob[],
  { days, jobs: most, leftovers }: Retention,
  nowMs: number,
): readonly KnownJob[] {
  const ended = jobs
    .filter((job) => hasEnded(job))
    .map((job) => ({ job, ageMs: nowMs - (job.endedMs ?? 0) }))
    .toSorted((a, b) => a.ageMs - b.ageMs || (b.job.endTime ?? '').localeCompare(a.job.endTime ?? ''));
  const isOld = (ageMs: number, index: number) => ageMs > DAY_MS && (ageMs > days * DAY_MS || index >= most);
  const plain = ended.filter(({ ageMs, job }, index) => isOld(ageMs, index) && !mayHaveLeftOver(job));
  const left = ended.filter(({ job }) => mayHaveLeftOver(job));
  const tooMany = left.filter(({ ageMs }, index) => ageMs > DAY_MS && index >= leftovers);
  const old = [...plain, ...tooMany].map(({ job }) => job);
  if (old.length === 0) return old;
  const goes = new Set(old);
  const later = new LaterJobs(jobs);
  const stays = jobs.filter((job) => hasEnded(job) && !goes.has(job));
  const needed = new Set(stays.flatMap((job) => changersOf(job, later)));
  return old.filter(({ accepted }) => !needed.has(accepted.job));
}

function changersOf(job: KnownJob, later: LaterJobs): readonly (string | undefined)[] {
  const { accepted, madeFile, outcome } = job;
  const known = [...accepted.committed, accepted.sourceFile ?? [], madeFile ?? []].flat().map(namesOfKnown);
  const named = [...known, ...outcome.safeToDelete].map((file) => later.withFile(accepted.job, file));
  return [...named, later.thatMoved(job)];
}

/** The service made a file for it, and did not see it become a copy, nor removed it. */
export function mayHaveLeftOver({ madeFile, outcome, steps }: KnownJob): boolean {
  const isRubbish = madeFile?.created === true && outcome.destinationContent !== 'COMPLETE';
  return (isRubbish && !outcome.destinationRemoved) || [...steps.values()].includes('UNDO_FAILED');
}
