/**
 * An agent whose jobs are journals that no QEMU has, in a process of its own: `node jobs-agent.ts DIR HOST SOCKET FIRST
 * COUNT`. Prints "serving". After a line "go" it begins COUNT jobs and brings each to its end, some at a time. Then it
 * prints how many entries it has written, and at last "done".
 */
import { createInterface } from 'node:readline';
import pLimit from 'p-limit';
import { pino } from 'pino';
import { JobLog } from '../../src/agent/journal/job-log.ts';
import { serve } from '../../src/grpc/server.ts';
import { ended, RUNNING } from '../unit/core/stories.ts';
import { JournalJobs } from './service/journal-jobs.ts';
import { INFO, NOTHING } from './service/stub-server.ts';

/** The entries after the first one of each. */
const COURSE = [RUNNING, ended('FAILED')] as const;
const AT_A_TIME = pLimit(24);
const TELLS_EACH = 50;

const [dir = '', host = '', unixSocket = '', first = '', count = ''] = process.argv.slice(2);
const jobs = await JournalJobs.open(dir, host);
const listDomains = async () => await Promise.resolve({ items: [], nextPageToken: '', unreachableHosts: [] });
const served = { ...NOTHING, watchJobs: jobs.watchJobs, listDomains };
const server = await serve(served, { info: INFO, listen: { unixSocket }, log: pino({ level: 'silent' }) });
process.once('SIGTERM', () => {
  void server.drain(0).then(() => process.exit(0));
});
process.stdout.write('serving\n');

let written = 0;
function tell(): void {
  written += 1;
  if (written % TELLS_EACH === 0) process.stdout.write(`${written}\n`);
}

async function goOn(job: string, revision: number): Promise<void> {
  const log = jobs.known.get(job);
  if (log === undefined) await jobs.begin({ job, domain: `vm-${job}` });
  else if (log instanceof JobLog && log.job.revision < revision) {
    const entry = COURSE[log.job.revision - 1];
    if (entry !== undefined) await jobs.write(log, entry);
  } else return;
  tell();
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'go') continue;
  const ids = Array.from(
    { length: Number(count) },
    (_, at) => `bj${(Number(first) + at).toString(16).padStart(16, '0')}`,
  );
  for (let revision = 1; revision <= COURSE.length + 1; revision += 1) {
    await Promise.all(ids.map(async (job) => await AT_A_TIME(async () => await goOn(job, revision))));
  }
  process.stdout.write('done\n');
}
