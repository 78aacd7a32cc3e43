/** JOB, or DOMAIN DISK. */
import type { Command } from 'commander';
import type { JobRef } from '../client/index.ts';
import { UsageError } from './terminal.ts';

/** One word is a job's id; two are a disk, and mean its active or latest job. */
export function jobRefOf(words: readonly string[]): JobRef {
  const [first, disk, ...more] = words;
  if (first === undefined || more.length > 0) throw new UsageError('give JOB, or DOMAIN DISK');
  if (disk === undefined) return { name: { $case: 'jobId', value: first } };
  return { name: { $case: 'disk', value: { domain: first, disk } } };
}

export function addJob(command: Command): Command {
  return command
    .usage('[options] <job> | <domain> <disk>')
    .argument('<job>', 'the id of the job, or DOMAIN')
    .argument('[disk]', 'with DOMAIN: a disk, for its active or latest job');
}
