/** The links of the pages lead to existing files and headings. And a reader finds each page, and reads to its end. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const FOLDERS = ['.', 'docs', 'deploy', 'examples', 'test', 'proto'];

const pages = FOLDERS.flatMap((folder) =>
  existsSync(join(ROOT, folder))
    ? readdirSync(join(ROOT, folder), { recursive: folder !== '.', encoding: 'utf8' })
        .filter((name) => name.endsWith('.md'))
        .map((name) => join(ROOT, folder, name))
    : [],
);

/** As the sites that show Markdown make them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = text.replaceAll(/^```[^]*?^```/gm, '').matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

function brokenIn(page: string): string[] {
  const text = readFileSync(page, 'utf8');
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  return links
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : resolve(dirname(page), path);
      if (!existsSync(file)) return true;
      return anchor !== undefined && file.endsWith('.md') && !anchorsOf(readFileSync(file, 'utf8')).has(anchor);
    })
    .map((target) => `${relative(ROOT, page)}: ${target}`);
}

/** Sources of tests that read pages, all in one. */
function readers(): string {
  const tests = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' });
  return tests
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => readFileSync(join(ROOT, 'test', name), 'utf8'))
    .join('\n');
}

test('every page with commands for a shell is read by a test, which runs them', () => {
  const sources = readers();
  const withCommands = pages.filter((page) => /^```sh$/m.test(readFileSync(page, 'utf8')));
  expect(withCommands.length).toBeGreaterThan(2);
  const unread = withCommands.filter((page) => !sources.includes(`DocPage('${relative(join(ROOT, 'docs'), page)}')`));
  expect(unread.map((page) => relative(ROOT, page))).toEqual([]);
});

test('every link of every page leads somewhere', () => {
  expect(pages.length).toBeGreaterThan(10);
  expect(pages.flatMap(brokenIn)).toEqual([]);
});

const README = join(ROOT, 'README.md');
const DOCS = pages.filter((page) => page === README || page.startsWith(join(ROOT, 'docs')));

/** What a page links to, of other pages. */
function pagesFrom(page: string): readonly string[] {
  const targets = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)\s#]+\.md)[^)]*\)/g)];
  return targets.map(([, target = '']) => resolve(dirname(page), target));
}

test('every page can be reached from README', () => {
  const found = new Set([README]);
  for (const page of found) for (const next of pagesFrom(page)) if (DOCS.includes(next)) found.add(next);
  expect(DOCS.filter((page) => !found.has(page)).map((page) => relative(ROOT, page))).toEqual([]);
});

test('every page says first what it is for, and ends before a reader leaves', () => {
  const wrong = DOCS.filter((page) => {
    const [title = '', empty, purpose = '', ...rest] = readFileSync(page, 'utf8').split('\n');
    return !/^# \S/.test(title) || empty !== '' || !/^(?:\*\*)?[A-Z]/.test(purpose) || rest.length > 240;
  });
  expect(wrong.map((page) => relative(ROOT, page))).toEqual([]);
});

/** Tables and code have lines of their own length. */
function longLinesIn(page: string): readonly string[] {
  const lines = readFileSync(page, 'utf8')
    .replaceAll(/^ *```[^]*?^ *```/gm, (code) => code.replaceAll(/.+/g, ''))
    .split('\n');
  return lines.flatMap((line, index) =>
    line.length > 120 && !/^(?:\|| {4})/.test(line) ? [`${relative(ROOT, page)}:${index + 1}`] : [],
  );
}

test('prose is wrapped at 120 columns', () => {
  expect(DOCS.flatMap(longLinesIn)).toEqual([]);
});
