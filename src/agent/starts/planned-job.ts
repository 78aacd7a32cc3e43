/** A plan that can be read before it is carried out, and bound to by its etag. */
import { createHash } from 'node:crypto';
import type { PlannedJob } from '../../core/block-jobs.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import { notesOf } from '../../core/plans/notes.ts';
import { inNotation, preview } from '../../core/plans/preview.ts';
import type { StartRequest } from '../../core/requests.ts';

/** Stands for the id of the job, which is new for each job. */
const UNNAMED = 'bj0000000000000000';

export function plannedJob(accepted: Accepted, request: StartRequest): PlannedJob {
  const job = unnamed(accepted);
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
    notes: notesOf(job, request),
  };
}

/**
 * The same for the same plan, of the same disk, with the same images and files around it. The space, and the number of
 * the guest's writes, change always; the chosen granularity is in the options.
 */
export function etagOf({ space: _space, granularity: _granularity, ...accepted }: Accepted): string {
  return createHash('sha256')
    .update(JSON.stringify(unnamed(accepted)))
    .digest('base64url');
}

function unnamed(accepted: Accepted): Accepted {
  return JSON.parse(JSON.stringify(accepted).replaceAll(accepted.job, UNNAMED)) as Accepted;
}
