/** Manual pages, from the help that the commands themselves give. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { commandLine } from '../src/config/command-line.ts';
import { commitTime, MANIFEST } from './places.ts';

/** What help does not tell. */
interface About {
  readonly files?: readonly (readonly [path: string, text: string])[];
  readonly seeAlso: readonly string[];
}

const ABOUT: Readonly<Record<string, About>> = {
  blockjobd: {
    files: [
      ['/var/lib/blockjobd', 'the journals of the jobs, unless --state-dir says otherwise'],
      ['/etc/blockjobd', 'certificates, policy and OPTIONS of the systemd units'],
    ],
    seeAlso: ['blockjob(1)', 'qemu-img(1)', 'systemctl(1)'],
  },
  blockjob: { seeAlso: ['blockjobd(1)'] },
};

/** Text as roff has it: a backslash, a hyphen that is a minus, and a line that would begin with a control character. */
function plain(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('\n', ' ')
    .replace(/^(?=[.'])/, '\\&');
}

function bold(text: string): string {
  return `\\fB${plain(text)}\\fR`;
}

/** Its own sentence; roff gives each a line. */
function sentence(text: string): string {
  return `${plain(text.charAt(0).toUpperCase() + text.slice(1)).replace(/\.$/, '')}.`;
}

function options(command: Command): readonly string[] {
  const help = command.createHelp();
  const shown = help.visibleOptions(command).filter(({ long }) => long !== '--help');
  return shown.flatMap((option) => ['.TP', bold(help.optionTerm(option)), sentence(help.optionDescription(option))]);
}

/** A command and those below it, each with its options. */
function sections(command: Command, path: readonly string[]): readonly string[] {
  const help = command.createHelp();
  const usage = help.commandUsage(command).slice(path.slice(0, -1).join(' ').length).trim();
  const below = help.visibleCommands(command).filter((one) => one.name() !== 'help');
  const head =
    path.length === 1
      ? []
      : [`.SS ${plain(path.slice(1).join(' '))}`, bold(usage), '.PP', sentence(command.description())];
  return [...head, ...options(command), ...below.flatMap((one) => sections(one, [...path, one.name()]))];
}

export function manPage(program: Command): string {
  const name = program.name();
  const { files = [], seeAlso } = ABOUT[name] ?? { seeAlso: [] };
  const day = commitTime().toISOString().slice(0, 10);
  return [
    `.TH ${name.toUpperCase()} 1 ${day} "${name} ${MANIFEST.version}" "User Commands"`,
    // Neither hyphens in words, nor lines that are stretched.
    '.nh',
    '.ad l',
    '.SH NAME',
    `${plain(name)} \\- ${plain(program.description().replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    `${bold(name)} ${plain(program.createHelp().commandUsage(program).slice(name.length).trim())}`,
    '.SH COMMANDS AND OPTIONS',
    ...sections(program, [name]),
    ...(files.length === 0 ? [] : ['.SH FILES']),
    ...files.flatMap(([path, text]) => ['.TP', bold(path), sentence(text)]),
    '.SH SEE ALSO',
    seeAlso.map((page) => plain(page)).join(', '),
    '',
  ].join('\n');
}

/** The mode that nobody starts here. */
async function unused(): Promise<void> {
  await Promise.resolve();
}

/** Writes a page for each command; gives their names below the folder's parent, as package.json has them. */
export function manPages(folder: string): readonly string[] {
  const programs = [commandLine({ embedded: unused, agent: unused, gateway: unused })];
  mkdirSync(folder, { recursive: true });
  return programs.map((program) => {
    writeFileSync(join(folder, `${program.name()}.1`), manPage(program));
    return `man/${program.name()}.1`;
  });
}
