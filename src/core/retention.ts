/** Which jobs that have ended are remembered, and for how long. */
import { hasEnded, type Job } from './job.ts';

export interface Retention {
  /** Longer ago, and a job is forgotten. */
  readonly days: number;
  /** No more than so many ended jobs; but none of the last day is forgotten. */
  readonly jobs: number;
}

const DAY_MS = 86_400_000;

/** Those to be forgotten. A request id is good for a day at least, and what a job has left over is told by its journal. */
export function toForget(jobs: readonly Job[], { days, jobs: most }: Retention, nowMs: number): readonly Job[] {
  const ended = jobs
    .filter((job) => hasEnded(job))
    .map((job) => ({ job, ageMs: nowMs - Date.parse(job.endTime ?? job.createTime) }))
    .toSorted((a, b) => a.ageMs - b.ageMs);
  return ended
    .filter(({ ageMs }, index) => ageMs > DAY_MS && (ageMs > days * DAY_MS || index >= most))
    .map(({ job }) => job)
    .filter((job) => !mayHaveLeftOver(job));
}

/** The service made a file for it, and did not see it become a copy, nor removed it. */
export function mayHaveLeftOver({ madeFile, outcome, steps }: Job): boolean {
  const isRubbish = madeFile?.created === true && outcome.destinationContent !== 'COMPLETE';
  return (isRubbish && !outcome.destinationRemoved) || [...steps.values()].includes('UNDO_FAILED');
}
