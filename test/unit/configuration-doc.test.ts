/** docs/configuration.md describes the command line: `make rewrite-docs` writes its table, and this test checks it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Option } from 'commander';
import { expect, test } from 'vitest';
import { commandLine } from '../../src/config/command-line.ts';

const PAGE = join(import.meta.dirname, '../../docs/configuration.md');
const MARKS = { from: '<!-- options -->\n', to: '<!-- end of options -->' };

const unused = async () => await Promise.reject(new Error('nothing is started here'));
const modes = commandLine({ embedded: unused, agent: unused, gateway: unused }).commands;

function defaultOf({ defaultValue, defaultValueDescription, argChoices }: Option): string {
  const text = String(defaultValueDescription ?? defaultValue ?? 'none');
  const shown = text === hostname() ? "the machine's" : text;
  return argChoices === undefined ? shown : `${shown}; one of ${argChoices.join(', ')}`;
}

function table(): string {
  const options = new Map<string, { readonly option: Option; readonly of: string[] }>();
  for (const mode of modes) {
    for (const option of mode.options) {
      const known = options.get(option.flags);
      if (known === undefined) options.set(option.flags, { option, of: [mode.name()] });
      else known.of.push(mode.name());
    }
  }
  const rows = [...options.values()].map(({ option, of }) => {
    const who = of.length === modes.length ? 'all' : of.join(', ');
    return `| \`${option.flags}\` | ${who} | ${defaultOf(option)} | ${option.description} |`;
  });
  return `| option | of | default | meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

test('docs/configuration.md lists exactly the options of the command line', () => {
  const text = readFileSync(PAGE, 'utf8');
  const [before = '', rest = ''] = text.split(MARKS.from);
  const page = before + MARKS.from + table() + MARKS.to + rest.split(MARKS.to)[1];
  if (process.env['REWRITE_DOCS'] !== undefined) writeFileSync(PAGE, page);
  expect(readFileSync(PAGE, 'utf8')).toBe(page);
});

test('an option means the same in each mode that has it', () => {
  const meanings = modes.flatMap(({ options }) => options.map(({ flags, description }) => `${flags}: ${description}`));
  const flags = modes.flatMap(({ options }) => options.map((option) => option.flags));
  expect(new Set(meanings).size).toBe(new Set(flags).size);
});
