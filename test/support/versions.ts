/**
 * `make test-versions`: the suites that depend on QEMU, with the QEMU of each Debian release, and a table of the results
 * in docs/versions.md. Each release is unpacked once, below .cache.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';

const REPOSITORY = resolve(import.meta.dirname, '../..');
const CACHE = join(REPOSITORY, '.cache/qemu');
const PAGE = join(REPOSITORY, 'docs/versions.md');
const RELEASES = ['bullseye', 'bookworm', 'trixie', 'sid'];
const SUITES = [
  'copy-matrix',
  'rebase',
  'commit',
  'destinations',
  'bitmaps',
  'change',
  'check-operation',
  'domains',
  'golden-rebase',
];
const MARKS = { from: '<!-- results -->\n', to: '<!-- end of results -->' };

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

interface Row {
  readonly version: string;
  readonly release: string;
  readonly cells: readonly string[];
  readonly failed: readonly string[];
}

function must(program: string, args: readonly string[], env = process.env): string {
  const { status, stdout } = spawnSync(program, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}`);
  return stdout;
}

function results(release: string): Row {
  const folder = join(CACHE, release);
  must(join(import.meta.dirname, 'qemu-root.sh'), [release, folder]);
  const env = { ...process.env, PATH: `${join(folder, 'bin')}:${process.env['PATH']}` };
  const version = must('qemu-system-x86_64', ['--version'], env).split('\n')[0]?.replace('QEMU emulator version ', '');
  const output = join(CACHE, `${release}.json`);
  rmSync(output, { force: true });
  const files = SUITES.map((suite) => `test/qemu/${suite}.test.ts`);
  const args = ['run', '--project', 'qemu', '--reporter=json', `--outputFile.json=${output}`];
  spawnSync('vitest', [...args, ...files], { env, cwd: REPOSITORY, stdio: ['ignore', 'ignore', 'inherit'] });
  const { testResults } = JSON.parse(readFileSync(output, 'utf8')) as Report;
  const failed: string[] = [];
  const cells = SUITES.map((suite) => {
    const tests = testResults.find(({ name }) => basename(name) === `${suite}.test.ts`)?.assertionResults ?? [];
    const count = (...statuses: string[]) => tests.filter(({ status }) => statuses.includes(status)).length;
    const bad = tests.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName);
    failed.push(...bad);
    // A suite that could not be loaded has no tests, and is no success.
    if (tests.length === 0) failed.push(`${suite}: no test was run`);
    const skipped = count('pending', 'skipped', 'todo');
    return [
      `${count('passed')} passed`,
      ...(bad.length > 0 ? [`${bad.length} failed`] : []),
      ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ].join(', ');
  });
  return { version: version ?? '?', release, cells, failed };
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |\n`;
}

function table(rows: readonly Row[]): string {
  const head = ['suite', ...rows.map(({ version, release }) => `${version}, ${release}`)];
  const body = SUITES.map((suite, index) => line([suite, ...rows.map(({ cells }) => cells[index] ?? '')]));
  return line(head) + line(head.map(() => '---')) + body.join('');
}

// What is asked for by name is only tried.
mkdirSync(CACHE, { recursive: true });
const wanted = process.argv.slice(2);
const rows = RELEASES.filter((release) => wanted.length === 0 || wanted.includes(release)).map(results);
const page = readFileSync(PAGE, 'utf8');
const [before = '', after = ''] = [page.split(MARKS.from)[0], page.split(MARKS.to)[1]];
if (wanted.length === 0) writeFileSync(PAGE, before + MARKS.from + table(rows) + MARKS.to + after);
process.stdout.write(`${table(rows)}\n`);
for (const { version, failed } of rows)
  for (const name of failed) process.stdout.write(`FAILED on ${version}: ${name}\n`);
process.exitCode = rows.some(({ failed }) => failed.length > 0) ? 1 : 0;
