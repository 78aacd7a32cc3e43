/** The commands that list: domains, disks, jobs, leftovers. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { ForeignJob, Job_State, type ListJobsResponse } from '../../client/index.ts';
import { EXIT } from '../exit.ts';
import { addFilters, type FilterFlags, filtersOf } from '../labels.ts';
import { allPages, tellUnreachable } from '../pages.ts';
import type { Run } from '../run.ts';
import { diskInWords, domainRow } from '../show/domain.ts';
import { foreignInWords, JOB_HEADING, jobRow } from '../show/job.ts';
import { jsonOfDisk, jsonOfDomain, jsonOfJob } from '../show/json.ts';
import { stateName } from '../show/names.ts';
import { table } from '../show/table.ts';
import { ACTIVE } from './watch.ts';

export function listCommands(run: Run): Command[] {
  return [domainsCommand(run), disksCommand(run), jobsCommand(run)];
}

function domainsCommand(run: Run): Command {
  const command = new Command('domains')
    .description('list the VMs')
    .option('--host <host>', 'only the VMs of one host of a fleet');
  return command.action(async () => {
    const { host = '' }: { host?: string } = command.opts();
    await run(command, 'reads', async (session) => {
      const { client, signal } = session;
      const pageAt = async (pageToken: string) => await client.listDomains({ host, pageToken }, { signal });
      const { items, unreachableHosts } = await allPages(pageAt, ({ domains }) => domains);
      if (session.isJson)
        for (const domain of items) session.tell({ type: 'domain', domain: jsonOfDomain(domain) }, []);
      else session.tell({ type: 'domain' }, table(['DOMAIN', 'HOST', 'GUEST', 'QEMU', 'UUID'], items.map(domainRow)));
      return tellUnreachable(session, unreachableHosts);
    });
  });
}

function disksCommand(run: Run): Command {
  const command = new Command('disks')
    .description('show the disks of a VM, each with its chain of images and its job')
    .argument('<domain>', 'the VM, by name or UUID');
  return command.action(async (name: string) => {
    await run(command, 'reads', async (session) => {
      const { domain } = await session.client.getDomain({ domain: name }, { signal: session.signal });
      const disks = domain?.disks ?? [];
      for (const disk of disks) session.tell({ type: 'disk', disk: jsonOfDisk(disk) }, diskInWords(disk));
      if (disks.length === 0) session.note(`${name} has no disks`);
      return EXIT.done;
    });
  });
}

const STATES = new Map(Object.values(Job_State).map((state) => [stateName(state).toLowerCase(), state]));

interface JobsFlags extends FilterFlags {
  readonly active?: boolean;
  readonly state?: readonly string[];
  readonly limit?: number;
}

function jobsCommand(run: Run): Command {
  const command = new Command('jobs')
    .description(
      'list jobs, newest first: active jobs, ended jobs that are still remembered, and jobs of other clients',
    )
    .argument('[domain]', 'only those of one VM')
    .option('--active', 'only active jobs')
    .addOption(
      new Option('--state <state...>', 'only jobs in these states').choices(
        [...STATES.keys()].filter((name) => name !== 'unspecified' && name !== 'unrecognized'),
      ),
    )
    .option('--limit <number>', 'only the newest ones', parseLimit);
  addFilters(command);
  return command.action(async (domain = '') => {
    const flags: JobsFlags = command.opts();
    const { active = false, state = [], limit } = flags;
    const named = state.flatMap((name) => STATES.get(name) ?? []);
    const stateFilter = active ? [...ACTIVE] : named;
    await run(command, 'reads', async (session) => {
      const { client, signal } = session;
      const foreign: ForeignJob[] = [];
      const silent: string[] = [];
      const request = { domain: String(domain), ...filtersOf(flags), stateFilter };
      const pageAt = async (pageToken: string) => await client.listJobs({ ...request, pageToken }, { signal });
      const itemsOf = ({ jobs, foreignJobs, unreachableDomains }: ListJobsResponse) => {
        foreign.push(...foreignJobs);
        silent.push(...unreachableDomains);
        return jobs;
      };
      const { items, unreachableHosts } = await allPages(pageAt, itemsOf, limit);
      if (session.isJson) {
        for (const job of items) session.tell({ type: 'job', job: jsonOfJob(job) }, []);
        for (const job of foreign) session.tell({ type: 'foreign', foreign: ForeignJob.toJSON(job) }, []);
      } else session.tell({ type: 'job' }, [...table(JOB_HEADING, items.map(jobRow)), ...foreignInWords(foreign)]);
      return tellUnreachable(session, unreachableHosts, silent);
    });
  });
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (Number.isSafeInteger(limit) && limit > 0) return limit;
  throw new InvalidArgumentError('Give a whole number of at least 1.');
}
