/** The ended jobs that are remembered, and for how long. */
import { hasEnded } from './job.ts';
import type { KnownJob } from './known-job.ts';
import { LaterJobs } from './later-jobs.ts';
import { namesOfKnown } from './used-file.ts';

export interface Retention {
  /** An older job is forgotten. */
  readonly days: number;
  /** The most ended jobs that are kept; no job of the last day is forgotten. */
  readonly jobs: number;
  /** The newest jobs that may have leftovers are kept in any case, up to this number. */
  readonly leftovers: number;
}

const DAY_MS = 86_400_000;

/**
 * The jobs to be forgotten, out of all jobs, oldest first. `nowMs` is on the clock of the state folder, which nobody
 * can set. A job without a time on it counts from when its end was first found. A request id is valid for a day at
 * least, and leftovers are known from journals. A job that changed the outcome of an older one is kept with it:
 * otherwise the older one would be believed.
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

/** Whether the service made a file for it, and neither saw it become a copy nor removed it; or left its limit in QEMU. */
export function mayHaveLeftOver({ madeFile, outcome, steps, throttle }: KnownJob): boolean {
  const isRubbish = madeFile?.created === true && outcome.destinationContent !== 'COMPLETE';
  return (
    throttle !== undefined || (isRubbish && !outcome.destinationRemoved) || [...steps.values()].includes('UNDO_FAILED')
  );
}
