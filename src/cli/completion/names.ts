/** Names that only the service knows: of domains, disks and jobs. There are none if it does not answer at once. */

import { BlockJobClient } from '../../client/index.ts';
import { defined } from '../../lib/defined.ts';
import { ACTIVE } from '../commands/watch.ts';
import { connectionOf, type GlobalFlags } from '../settings.ts';
import type { Terminal } from '../terminal.ts';

/** A user who presses Tab does not wait. */
const IN_TIME = { timeoutMs: 1500, patienceMs: 0 };

type Ask = (client: BlockJobClient, before: readonly string[]) => Promise<string[]>;

const domains: Ask = async (client) => (await client.listDomains({}, IN_TIME)).domains.map(({ name }) => name);

const activeJobs: Ask = async (client) => {
  const { jobs } = await client.listJobs({ stateFilter: [...ACTIVE] }, IN_TIME);
  return jobs.map(({ id }) => id);
};

/** By the name of the argument. */
const NAMES: Readonly<Record<string, Ask>> = {
  domain: domains,
  disk: async (client, [domain = '']) => {
    const found = await client.getDomain({ domain }, IN_TIME);
    return found.domain?.disks.map(({ name }) => name) ?? [];
  },
  job: async (client, before) => [...(await activeJobs(client, before)), ...(await domains(client, before))],
  leftover: async (client) => (await client.listLeftovers({}, IN_TIME)).leftovers.map(({ id }) => id),
};

export async function namesFor(
  argument: string,
  before: readonly string[],
  flags: ReadonlyMap<string, string>,
  terminal: Terminal,
): Promise<string[]> {
  const ask = NAMES[argument];
  if (ask === undefined) return [];
  try {
    using client = new BlockJobClient(await connectionOf(globalsIn(flags, terminal), terminal));
    return await ask(client, before);
  } catch {
    return [];
  }
}

/** The line is not finished, so no parser has read it. */
function globalsIn(flags: ReadonlyMap<string, string>, { environment }: Terminal): GlobalFlags {
  const of = (name: string) => flags.get(name) ?? environment[`BLOCKJOB_${name.replace(/[A-Z]/, '_$&').toUpperCase()}`];
  const texts = ['ca', 'cert', 'key', 'serverName', 'context', 'config'].map((name) => [name, of(name)] as const);
  return defined({ ...Object.fromEntries(texts), address: of('address')?.split(',') });
}
