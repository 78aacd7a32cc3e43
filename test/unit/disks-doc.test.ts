/** docs/disks.md is the table of src/core/disks: `make rewrite-docs` writes its rows, this holds them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FORMATS, LAYERS, STORAGES } from '../../src/core/disk/drivers.ts';
import { KINDS, type Kind } from '../../src/core/disk/kinds.ts';
import type { Fate, Role } from '../../src/core/disk/uses.ts';

const PAGE = join(import.meta.dirname, '../../docs/disks.md');
const ROLES: readonly Role[] = ['READ', 'FILLED', 'RELINKED', 'CUT', 'NAMED', 'LEFT', 'DELETED'];

function cell(fate: Fate): string {
  switch (fate.is) {
    case 'CARRIED':
      return fate.note === '' ? 'carried over' : `carried over: ${fate.note}`;
    case 'KEPT':
      return fate.note === '' ? 'kept' : `kept: ${fate.note}`;
    case 'REFUSED':
      return `**refused**: ${fate.why}`;
    case 'LOST':
      return `**refused** unless ${fate.accept} is accepted: ${fate.why}`;
  }
}

function rows(): string {
  const kinds: readonly (readonly [string, Kind])[] = Object.entries(KINDS);
  return kinds
    .map(
      ([name, { title, fates }]) => `| ${name}: ${title} | ${ROLES.map((role) => cell(fates[role])).join(' | ')} |\n`,
    )
    .join('');
}

test('docs/disks.md names each driver that is known', () => {
  const words = new Set(readFileSync(PAGE, 'utf8').split(/[^a-z0-9_-]+/));
  expect([...FORMATS, ...STORAGES, ...LAYERS].filter((driver) => !words.has(driver))).toEqual([]);
});

/** Below the table's heading, up to its end. */
const TABLE = /(?<=^\| image \|.*\n\|[-|]+\|\n)(?:\|.*\n)*/m;

test('docs/disks.md has exactly the rows of the table', () => {
  const page = readFileSync(PAGE, 'utf8');
  const right = page.replace(TABLE, rows());
  if (process.env['REWRITE_DOCS'] !== undefined) writeFileSync(PAGE, right);
  expect(TABLE.test(page)).toBe(true);
  expect(readFileSync(PAGE, 'utf8')).toBe(right);
});
