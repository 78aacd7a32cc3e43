/** How a job stands or has ended, in sentences: what the guest runs on, what starts next time, what may be deleted. */
import {
  DestinationContent,
  errorOfStatus,
  hasEnded,
  type Job,
  Job_State,
  JobKind,
  type Outcome,
} from '../../client/index.ts';
import { destinationOf, diskOf, encryptionInWords } from './job.ts';
import { kindInWords } from './names.ts';

/** Pivoted: the guest was on the source, and is on what the job wrote. */
export function hasPivoted({ state, sourcePath, outcome, kind }: Job): boolean {
  const hasPivot = kind === JobKind.JOB_KIND_COPY || kind === JobKind.JOB_KIND_ACTIVE_COMMIT;
  const guest = outcome?.guestWritesTo ?? '';
  return hasPivot && state === Job_State.STATE_COMPLETED && guest !== '' && guest !== sourcePath;
}

/** The first line is what virsh would say. */
export function headlineOf(job: Job): string {
  const what = `${diskOf(job)}: `;
  switch (job.state) {
    case Job_State.STATE_COMPLETED:
      return what + completedAs(job);
    case Job_State.STATE_CANCELLED: {
      const isCopy = job.outcome?.destinationContent === DestinationContent.DESTINATION_CONTENT_COMPLETE;
      return `${what}${kindInWords(job.kind)} ended without a pivot${isCopy ? '; the copy is complete' : ''}`;
    }
    case Job_State.STATE_FAILED:
      return `${what}${kindInWords(job.kind)} failed`;
    case Job_State.STATE_UNRESOLVED:
      return `${what}What became of it cannot be proved. Look before anything is started or deleted`;
    case Job_State.STATE_READY:
      return `${what}Now in mirroring phase`;
    default:
      return `${what}${kindInWords(job.kind)} goes on`;
  }
}

function completedAs(job: Job): string {
  if (hasPivoted(job)) return 'Successfully pivoted';
  switch (job.kind) {
    case JobKind.JOB_KIND_COPY:
      return 'Successfully copied';
    case JobKind.JOB_KIND_PULL:
      return 'Pull complete';
    default:
      return 'Commit complete';
  }
}

/** All that is to be known of a job that has ended. */
export function outcomeInWords(job: Job, { withEvidence = false } = {}): string[] {
  const { outcome, error } = job;
  const lines = [headlineOf(job)];
  if (error !== undefined) lines.push(`  Why: ${errorOfStatus(error).message}`);
  if (outcome === undefined) return lines;
  const { safeToDelete, evidence, destinationChangedByJobId: changedBy } = outcome;
  lines.push(...guestInWords(job, outcome));
  const content = contentInWords(job, outcome);
  if (content !== '') lines.push(`  ${content}`);
  if (changedBy !== '')
    lines.push(`  Job ${changedBy} has used the destination since: what it holds now, that one says`);
  for (const { path, warning } of safeToDelete) {
    lines.push(`  Safe to delete: ${path}${warning === '' ? '' : ` (${warning})`}`);
  }
  if (hasEnded(job.state) && safeToDelete.length === 0) lines.push('  Nothing is known to be safe to delete');
  if (withEvidence) lines.push(...evidence.map(({ text }) => `  Evidence: ${text}`));
  return lines;
}

function guestInWords(job: Job, outcome: Outcome): string[] {
  const { guestWritesTo, nextStartPath, guestAsOf, guestChangedByJobId: changedBy } = outcome;
  if (changedBy !== '') {
    const then = guestAsOf === undefined ? '' : ` as of ${guestAsOf.toISOString()}`;
    const was = guestWritesTo === '' ? [] : [`  The guest ran on ${guestWritesTo}${then}`];
    return [
      ...was,
      `  That has changed since. Where it runs, and what the VM must be started with, says job ${changedBy}`,
    ];
  }
  const lines = guestWritesTo === '' ? [] : [`  The guest runs on ${guestWritesTo}`];
  if (nextStartPath !== '') {
    const why = hasPivoted(job) ? ' (its configuration may still name another image)' : '';
    const encryption = hasPivoted(job) ? encryptionInWords(job.destination) : '';
    const key = encryption === '' ? '' : `, which is encrypted: ${encryption}`;
    lines.push(`  Start the VM next time with ${nextStartPath}${why}${key}`);
  } else if (hasEnded(job.state)) lines.push('  What the VM must be started with next time is not known');
  return lines;
}

function contentInWords(job: Job, { destinationContent, asOf, destinationRemoved }: Outcome): string {
  const where = destinationOf(job.destination) || (job.options?.basePath ?? 'the destination');
  if (destinationRemoved) return `${where} was not complete, and has been removed`;
  switch (destinationContent) {
    case DestinationContent.DESTINATION_CONTENT_PARTIAL:
      return `${where} is not complete: never use it as a disk`;
    case DestinationContent.DESTINATION_CONTENT_MIRRORED:
      return `${where} is complete and follows the guest`;
    case DestinationContent.DESTINATION_CONTENT_COMPLETE:
      return asOf === undefined ? '' : `${where} is a complete copy as of ${asOf.toISOString()}`;
    case DestinationContent.DESTINATION_CONTENT_STALE:
      return `${where} was complete once and fell behind: do not use it as a disk`;
    case DestinationContent.DESTINATION_CONTENT_UNKNOWN:
      return `What ${where} holds is not known`;
    default:
      return '';
  }
}
