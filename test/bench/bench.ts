/**
 * make bench: measures the rows that are named, or all. Each has a process of its own, so that it finds the same memory
 * whatever ran before. Ends with 1 if a row fails or got worse, after all rows. The table of such a row stays, so that
 * the next run compares with it, too.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { present } from '../support/checks.ts';
import { setup } from '../support/service/bundle.ts';
import type { Figure } from './figure.ts';
import { machine } from './machine.ts';
import { partOf, withPart } from './page.ts';
import { ROWS, type Row } from './rows.ts';
import { lackingIn, missedIn, tableOf, worseThan } from './table.ts';

const PAGES = ['performance', 'scale'] as const;

const fileOf = (page: Row['page']) => join(import.meta.dirname, `../../docs/${page}.md`);

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function measured({ name }: Row): Promise<readonly Figure[]> {
  // Compiled code is kept between the runs of this repository, but not between those of its users.
  const { NODE_COMPILE_CACHE: _, ...env } = process.env;
  const child = fork(join(import.meta.dirname, 'row.ts'), [name], { env });
  const sent: (readonly Figure[])[] = [];
  child.on('message', (figures) => sent.push(figures as readonly Figure[]));
  const [[code, signal]] = await Promise.all([once(child, 'exit'), once(child, 'disconnect')]);
  const [figures] = sent;
  if (code !== 0 || figures === undefined) throw new Error(`its process ended with ${code ?? signal}`);
  return figures;
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => ROWS.every((row) => row.name !== name));
if (unknown.length > 0) {
  process.stderr.write(`no row is named ${unknown.join(', ')}: there are ${ROWS.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}

// Services compile no TypeScript when they start.
const removeBundles = await setup();
await using held = new AsyncDisposableStack();
held.defer(async () => await removeBundles?.());

const here = await machine();
say(here);
const texts = Object.fromEntries(PAGES.map((page) => [page, readFileSync(fileOf(page), 'utf8')]));
const textOf = (page: Row['page']) => present(texts[page]);
const isAnother = partOf(textOf('performance'), 'machine') !== here;
texts['performance'] = withPart(textOf('performance'), 'machine', here);
const [failures, missed]: [string[], string[]] = [[], []];
for (const row of ROWS.filter(({ name }) => names.length === 0 || names.includes(name))) {
  try {
    const figures = await measured(row);
    const table = tableOf(row, figures);
    say(`${row.name}\n\n${table}`);
    missed.push(...missedIn(row, figures).map((text) => `${row.name}: ${text}`));
    const wrong = [...lackingIn(row, figures), ...worseThan(partOf(textOf(row.page), row.name), row, figures)];
    if (wrong.length === 0) texts[row.page] = withPart(textOf(row.page), row.name, table);
    failures.push(...wrong.map((text) => `${row.name}: ${text}`));
  } catch (error) {
    failures.push(`${row.name}: ${String(error)}`);
  }
}

// All tables are of one machine, and of as many rounds as the rows want.
if (process.env['ROUNDS'] !== undefined) say('ROUNDS is set: docs stays.');
else if (isAnother && (names.length > 0 || failures.length > 0)) {
  say('docs stays: its tables are of another machine. A run of all rows that does not fail rewrites them.');
} else for (const page of PAGES) writeFileSync(fileOf(page), textOf(page));
for (const text of missed) say(text);
for (const text of failures) say(`FAILED: ${text}`);
if (failures.length > 0) process.exitCode = 1;
