/** A job after entries that are not written yet. */
import { advance, type Job } from './job.ts';
import type { EntryBody } from './journal-entry.ts';

export function withUnwritten(job: Job, bodies: readonly EntryBody[]): Job {
  return bodies.reduce((before, body) => advance(before, { revision: before.revision + 1, time: '', ...body }), job);
}
