/** The reason why a requested end is not done, in words. The rows of next-move.ts look at the same things. */
import { hasEnded, type Job } from '../job/job.ts';
import type { Asked, Seen } from './moves.ts';

/** '' if no end is requested. */
export function waitsFor(job: Job, seen: Seen, asked: Asked): string {
  if (job.intent === undefined || hasEnded(job)) return '';
  if (seen.qemu !== 'UP') return seen.qemu === 'SILENT' ? 'an answer of QEMU' : '';
  if (job.concluded !== undefined) return 'QEMU to close what the job had open';
  if (job.pauseReason !== undefined) return `the job, which is paused: ${job.pauseReason}`;
  const isPivot = job.state === 'PIVOTING';
  if (isPivot && seen.guestMigrates) return 'the end of the guest’s migration';
  if (isPivot && asked.has('fenced')) return 'the permission to move the guest: another host may own the VM';
  if (asked.has('complete') || asked.has('end')) return 'QEMU, which ends the job';
  if (job.guestHeld) return 'the remaining data, with the guest paused';
  if (seen.job !== undefined && seen.job.remainingBytes > 0) return 'the remaining data';
  return '';
}
