/** Manual pages, from the help that the commands themselves give. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { programIn } from '../src/cli/program.ts';
import { commandLine } from '../src/config/command-line.ts';
import { commitTime, MANIFEST } from './places.ts';

/** The parts of a page that help does not have. */
const SEE_ALSO: Readonly<Record<string, string>> = { blockjobd: 'blockjob', blockjob: 'blockjobd' };

/**
 * Escapes a text for roff: a backslash, a hyphen that is a minus, letters beyond ASCII, and a line that would begin
 * with a control character.
 */
function plain(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/[^ -~]/gu, (one) => `\\[u${one.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}]`)
    .replace(/^(?=[.'])/, '\\&');
}

function bold(text: string): string {
  return `\\fB${plain(text)}\\fR`;
}

function sentence(text: string): string {
  return `${plain(text.charAt(0).toUpperCase() + text.slice(1)).replace(/\.$/, '')}.`;
}

/** The arguments and options of a command, each with its meaning. */
function terms(command: Command): readonly string[] {
  const help = command.createHelp();
  const given = help
    .visibleArguments(command)
    .map((argument) => [help.argumentTerm(argument), help.argumentDescription(argument)] as const);
  const options = help
    .visibleOptions(command)
    .filter(({ long }) => long !== '--help')
    .map((option) => [help.optionTerm(option), help.optionDescription(option)] as const);
  return [...given, ...options].flatMap(([term, meaning]) => ['.TP', bold(term), sentence(meaning)]);
}

/** A command and its subcommands. */
function section(command: Command, above: string): readonly string[] {
  const path = `${above} ${command.name()}`.trim();
  const usage = `${path} ${command.usage()}`.replace('[options] [command]', '[command]');
  return [
    `.SS ${plain(path)}`,
    bold(usage),
    '.PP',
    sentence(command.description()),
    ...command.aliases().map((alias) => sentence(`also named ${alias}`)),
    ...terms(command),
    ...commandsOf(command).flatMap((one) => section(one, path)),
  ];
}

function commandsOf(command: Command): readonly Command[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .filter((one) => one.name() !== 'help');
}

/** The text at the end of help. */
function remarks(program: Command): string {
  let said = '';
  program.configureOutput({ writeOut: (text) => (said += text) });
  program.outputHelp();
  return said.replace(program.helpInformation(), '').trim();
}

function manPage(program: Command): string {
  const name = program.name();
  const day = commitTime().toISOString().slice(0, 10);
  const notes = remarks(program);
  return [
    `.TH ${name.toUpperCase()} 1 ${day} "${name} ${MANIFEST.version}" "User Commands"`,
    // No hyphenation, and no stretched lines.
    '.nh',
    '.ad l',
    '.SH NAME',
    `${plain(name)} \\- ${plain(program.description().replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    `${bold(name)} ${plain(program.usage())}`,
    '.SH OPTIONS',
    ...terms(program),
    '.SH COMMANDS',
    ...commandsOf(program).flatMap((command) => section(command, '')),
    ...(notes === '' ? [] : ['.SH NOTES', plain(notes)]),
    '.SH SEE ALSO',
    `.BR ${SEE_ALSO[name]} (1),`,
    plain('the documents in /usr/share/doc/blockjobd, or beside the package'),
    '',
  ].join('\n');
}

/** A mode whose command line is only described. */
async function unused(): Promise<void> {
  await Promise.resolve();
}

/** Writes a page for each command. Returns their paths relative to the folder's parent, for package.json. */
export function manPages(folder: string): readonly string[] {
  const terminal = {
    environment: {},
    stdout: process.stdout,
    stderr: process.stderr,
    signal: new AbortController().signal,
  };
  const programs = [
    commandLine({ embedded: unused, agent: unused, gateway: unused }),
    programIn(terminal, () => undefined),
  ];
  mkdirSync(folder, { recursive: true });
  return programs.map((program) => {
    writeFileSync(join(folder, `${program.name()}.1`), manPage(program));
    return `man/${program.name()}.1`;
  });
}
