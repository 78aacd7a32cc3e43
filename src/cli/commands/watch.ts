/** `blockjob watch`: watches one job, or all active ones. */
import { Command } from 'commander';
import { type Job, Job_State } from '../../client/index.ts';
import { EXIT, type ExitCode } from '../exit.ts';
import { allPages, tellUnreachable } from '../pages.ts';
import type { CliRun, Run } from '../run.ts';
import { UsageError } from '../terminal.ts';
import { waitFor } from '../wait.ts';
import { jobIn, jobRefOf } from './job.ts';

export const ACTIVE: readonly Job_State[] = [
  Job_State.STATE_STARTING,
  Job_State.STATE_RUNNING,
  Job_State.STATE_READY,
  Job_State.STATE_PIVOTING,
  Job_State.STATE_CANCELLING,
];

interface WatchFlags {
  readonly all?: boolean;
  readonly domain?: string;
  readonly ready?: boolean;
}

export function watchCommand(run: Run): Command {
  const command = new Command('watch')
    .description('show a job’s progress until it ends; Ctrl-C ends the watching, not the job')
    .usage('[options] <job> | <domain> <disk> | --all')
    .argument('[job]', 'the id of the job, or DOMAIN')
    .argument('[disk]', 'with DOMAIN: a disk, for its active or latest job')
    .option('--all', 'all jobs that are active now, with a bar each')
    .option('--domain <domain>', 'with --all: only jobs of one VM')
    .option('--ready', 'only until the job is READY');
  return command.action(async () => {
    const flags: WatchFlags = command.opts();
    const isAll = flags.all === true || flags.domain !== undefined;
    if (isAll === command.args.length > 0) throw new UsageError('give JOB, DOMAIN DISK, or --all');
    const ref = isAll ? undefined : jobRefOf(command.args);
    await run(command, 'reads', async (session) => {
      const { client, signal } = session;
      if (ref !== undefined)
        return await watch(session, [jobIn(await client.getInfo({ job: ref }, { signal }))], flags);
      const request = { domain: flags.domain ?? '', stateFilter: [...ACTIVE] };
      const pageAt = async (pageToken: string) => await client.listJobs({ ...request, pageToken }, { signal });
      const { items, unreachableHosts } = await allPages(pageAt, ({ jobs }) => jobs);
      const code = tellUnreachable(session, unreachableHosts);
      if (items.length === 0) session.note('no job is active');
      const watched = items.length === 0 ? EXIT.done : await watch(session, items, flags);
      return watched === EXIT.done ? code : watched;
    });
  });
}

async function watch(session: CliRun, jobs: readonly Job[], { ready = false }: WatchFlags): Promise<ExitCode> {
  const goal = { atReady: 'nothing', endsByItself: !ready, keepsGuest: false, timeoutMs: undefined } as const;
  return await waitFor(session, jobs, { goal, isAsync: false, isVerbose: true });
}
