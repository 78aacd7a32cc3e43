/** The end of a job in sentences: the image of the guest and of the next start, and the files that may be deleted. */
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

/** Whether it pivoted: the guest was on the source, and is on the image that the job wrote. */
export function hasPivoted({ state, sourcePath, outcome, kind }: Job): boolean {
  const hasPivot = kind === JobKind.JOB_KIND_COPY || kind === JobKind.JOB_KIND_ACTIVE_COMMIT;
  const guest = outcome?.guestWritesTo ?? '';
  return hasPivot && state === Job_State.STATE_COMPLETED && guest !== '' && guest !== sourcePath;
}

/** The first line has virsh's words. */
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
      return `${what}The end of the job cannot be proved. Look before you start or delete anything`;
    case Job_State.STATE_READY:
      return `${what}Now in mirroring phase`;
    default:
      return `${what}${kindInWords(job.kind)} continues`;
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

/** All facts about a job that has ended. */
export function outcomeInWords(job: Job, { withEvidence = false } = {}): string[] {
  const { outcome, error } = job;
  const lines = [headlineOf(job)];
  if (error !== undefined) lines.push(`  Why: ${errorOfStatus(error).message}`);
  if (outcome === undefined) return lines;
  const { safeToDelete, evidence, destinationChangedByJobId: changedBy } = outcome;
  lines.push(...guestInWords(job, outcome));
  if (outcome.setConfigBackTo !== '') {
    lines.push(`  Set the configuration of the VM back to ${outcome.setConfigBackTo}: it may name the copy`);
  }
  const content = contentInWords(job, outcome);
  if (content !== '') lines.push(`  ${content}`);
  if (changedBy !== '') lines.push(`  Job ${changedBy} has used the destination since, and knows its present contents`);
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
      `  That has changed since. Job ${changedBy} knows where it runs, and which image the VM must be started with`,
    ];
  }
  const lines = guestWritesTo === '' ? [] : [`  The guest runs on ${guestWritesTo}`];
  if (nextStartPath !== '') {
    const why = hasPivoted(job) ? ' (its configuration may still name another image)' : '';
    const encryption = hasPivoted(job) ? encryptionInWords(job.destination) : '';
    const key = encryption === '' ? '' : `, which is encrypted: ${encryption}`;
    lines.push(`  Start the VM next time with ${nextStartPath}${why}${key}`);
  } else if (hasEnded(job.state)) lines.push('  The image for the next start of the VM is not known');
  return lines;
}

function contentInWords(job: Job, { destinationContent, asOf, destinationRemoved }: Outcome): string {
  const where = destinationOf(job.destination) || (job.options?.basePath ?? 'the destination');
  if (destinationRemoved) return `${where} was incomplete, and has been removed`;
  switch (destinationContent) {
    case DestinationContent.DESTINATION_CONTENT_PARTIAL:
      return `${where} is incomplete: never use it as a disk`;
    case DestinationContent.DESTINATION_CONTENT_MIRRORED:
      return `${where} is complete and follows the guest`;
    case DestinationContent.DESTINATION_CONTENT_COMPLETE:
      return asOf === undefined ? '' : `${where} is a complete copy as of ${asOf.toISOString()}`;
    case DestinationContent.DESTINATION_CONTENT_STALE:
      return `${where} was complete once, but lacks newer writes: do not use it as a disk`;
    case DestinationContent.DESTINATION_CONTENT_UNKNOWN:
      return `The contents of ${where} are not known`;
    default:
      return '';
  }
}
