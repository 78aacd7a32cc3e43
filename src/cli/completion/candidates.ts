/** The candidates for the next word of a command line: commands, options and their values, and names in the service. */
import type { Argument, Command, Option } from 'commander';
import { BlockJobClient } from '../../client/index.ts';
import { defined } from '../../lib/defined.ts';
import { ACTIVE } from '../commands/watch.ts';
import { connectionOf, type GlobalFlags } from '../settings.ts';
import { visible } from '../show/visible.ts';
import type { Terminal } from '../terminal.ts';

interface Candidate {
  readonly value: string;
  readonly about: string;
}

/** The state after the words before the one that is being typed. */
interface Place {
  readonly command: Command;
  readonly positionals: readonly string[];
  /** An option that waits for its value. */
  readonly option: Option | undefined;
  readonly flags: ReadonlyMap<string, string>;
}

/** Lines `VALUE<tab>DESCRIPTION`; none if the shell should offer files. */
export async function candidatesFor(program: Command, words: readonly string[], terminal: Terminal): Promise<string[]> {
  const current = words.at(-1) ?? '';
  const place = placeAfter(program, words.slice(0, -1));
  const all = await allAt(place, current, terminal);
  return all.filter(({ value }) => value.startsWith(current)).map(({ value, about }) => `${visible(value)}\t${about}`);
}

function placeAfter(program: Command, words: readonly string[]): Place {
  let command = program;
  let option: Option | undefined;
  const positionals: string[] = [];
  const flags = new Map<string, string>();
  for (const word of words) {
    if (option !== undefined) {
      flags.set(option.attributeName(), word);
      option = undefined;
    } else if (word.startsWith('-')) {
      const found = optionsOf(command).find((one) => one.long === word || one.short === word);
      if (found?.required === true) option = found;
    } else {
      const sub = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
      if (sub !== undefined && positionals.length === 0) command = sub;
      else positionals.push(word);
    }
  }
  return { command, positionals, option, flags };
}

async function allAt(place: Place, current: string, terminal: Terminal): Promise<Candidate[]> {
  const { command, positionals, option, flags } = place;
  if (option !== undefined) return choicesOf(option);
  if (current.startsWith('-')) {
    return optionsOf(command).map((one) => ({ value: one.long ?? one.flags, about: one.description }));
  }
  const subs = command.commands.map((one) => ({ value: one.name(), about: one.description() }));
  if (subs.length > 0 && positionals.length === 0) return subs;
  const argument = argumentAt(command, positionals.length);
  if (argument === undefined) return [];
  const choices = choicesOf(argument);
  if (choices.length > 0) return choices;
  const names = await namesFor(argument.name(), positionals, flags, terminal);
  return names.map((value) => ({ value, about: '' }));
}

function argumentAt(command: Command, index: number): Argument | undefined {
  const all = command.registeredArguments;
  return all[index] ?? (all.at(-1)?.variadic === true ? all.at(-1) : undefined);
}

function choicesOf({ argChoices }: Option | Argument): Candidate[] {
  return (argChoices ?? []).map((value) => ({ value, about: '' }));
}

/** The options of the command, and of the commands above it. */
function optionsOf(command: Command): Option[] {
  const above = command.parent === null ? [] : optionsOf(command.parent);
  return [...command.options, ...above].filter(({ hidden }) => !hidden);
}

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

/** Names that only the service knows. There are none if it does not answer at once. */
async function namesFor(
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
