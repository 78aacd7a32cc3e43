/** A plan to be read before it is carried out, and bound to by its etag. */
import { createHash } from 'node:crypto';
import type { PlannedJob } from '../core/block-jobs.ts';
import type { Accepted } from '../core/journal-entry.ts';
import { inNotation, preview } from '../core/plans/preview.ts';

/** Holds the place of the job's name, which is new for each job. */
const UNNAMED = 'bj0000000000000000';

export function plannedJob(accepted: Accepted): PlannedJob {
  const job = unnamed(accepted);
  const because = job.pauseGuestBecause;
  return {
    etag: etagOf(accepted),
    accepted: job,
    steps: preview(job).map(({ name, phase, run, undo, reason }) => ({
      name,
      phase,
      run: run === undefined ? '' : inNotation(run),
      undo: undo === undefined ? '' : inNotation(undo),
      reason,
    })),
    notes: because === undefined || job.destination === undefined ? [] : [`pauses the guest for the pivot: ${because}`],
  };
}

/** The same for the same plan, of the same disk, with the same images and files around it. */
export function etagOf(accepted: Accepted): string {
  return createHash('sha256')
    .update(JSON.stringify(unnamed(accepted)))
    .digest('base64url');
}

function unnamed(accepted: Accepted): Accepted {
  return JSON.parse(JSON.stringify(accepted).replaceAll(accepted.job, UNNAMED)) as Accepted;
}
