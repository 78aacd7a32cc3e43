/** `blockjob events`: shows the events of all jobs, including new ones, until it is stopped. */
import { Command } from 'commander';
import { errorOfStatus, JobEvent_Kind, type WatchJobsResponse } from '../../client/index.ts';
import { EXIT } from '../exit.ts';
import { addFilters, type FilterFlags, filtersOf } from '../labels.ts';
import type { CliRun, Run } from '../run.ts';
import { diskOf, progressOf, stateOf } from '../show/job.ts';
import { jsonOfError, jsonOfEvent } from '../show/json.ts';

interface EventsFlags extends FilterFlags {
  readonly domain?: string;
  readonly resumeToken?: string;
}

export function eventsCommand(run: Run): Command {
  const command = addFilters(
    new Command('events')
      .description(
        'show the events of all jobs, including new ones, one per line; Ctrl-C ends the command, not the jobs',
      )
      .option('--domain <domain>', 'jobs of one VM only'),
  ).option('--resume-token <token>', 'go on after the line of --output json that had this resumeToken');
  return command.action(async () => {
    const flags: EventsFlags = command.opts();
    await run(command, 'reads', async (session) => {
      const { domain = '', resumeToken = '' } = flags;
      const request = { ...filtersOf(flags), domain, resumeToken };
      const messages = session.client.watchJobs(request, { signal: session.signal });
      for await (const message of messages) tell(session, message);
      return EXIT.done;
    });
  });
}

function tell(session: CliRun, { about, resumeToken }: WatchJobsResponse): void {
  const token = resumeToken === '' ? {} : { resumeToken };
  switch (about?.$case) {
    case 'event': {
      const { job, time, kind, detail } = about.value;
      if (job === undefined) return;
      // There are many steps: only --output json shows them.
      const parts = [
        time?.toISOString().slice(11, 19) ?? '',
        job.id,
        diskOf(job),
        stateOf(job),
        progressOf(job),
        detail,
      ];
      const line = parts.filter((part) => part !== '').join('  ');
      const lines = kind === JobEvent_Kind.KIND_STEP ? [] : [line];
      session.tell({ type: 'event', event: jsonOfEvent(about.value), ...token }, lines);
      return;
    }
    case 'snapshot': {
      const { host, compacted, text } = about.value;
      const lines = compacted ? [`${host}: starts again with a snapshot: ${text}`] : [];
      session.tell({ type: 'snapshot', host, compacted, text }, lines);
      return;
    }
    case 'synced':
      session.tell({ type: 'synced', ...about.value, ...token }, []);
      return;
    case 'unreachable': {
      const { host, error } = about.value;
      const why = error && errorOfStatus(error);
      session.tell({ type: 'unreachable', hosts: [host], ...(why && { error: jsonOfError(why) }) }, [
        `${host}: ${why?.message ?? 'does not answer'}`,
      ]);
      return;
    }
    case 'complete':
      session.note('all existing jobs are shown; new events follow');
      return;
    case 'heartbeat':
    case undefined:
      return;
  }
}
