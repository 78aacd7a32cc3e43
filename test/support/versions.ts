/**
 * `make test-versions`: the suites that depend on QEMU, with the QEMU of each Debian release, and a table of the
 * results in docs/versions.md. Each release is unpacked once, below .cache; vitest's whole report of its run stays
 * there.
 *
 * The arguments select: `11.1` runs all suites with that version, and renews its column of the table. With a suite
 * (`11.1 golden-rebase`) it is a trial, and nothing is written.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';

const REPOSITORY = resolve(import.meta.dirname, '../..');
const CACHE = join(REPOSITORY, '.cache/qemu');
const PAGE = join(REPOSITORY, 'docs/versions.md');
/** The Debian release of each QEMU; the last one moves on, and the run prints its version. */
const RELEASES = { '5.2': 'bullseye', '7.2': 'bookworm', '10.0': 'trixie', '11.1': 'sid' } as const;
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
  'golden-other',
  'rebase-sweep',
  'lost-journal',
  'leftovers',
  'plans',
  'migration',
  'stable-storage',
  'guest-load',
  'endless-pivot',
  'buffers',
  'end-policy',
  'throttle',
  'throttle-facts',
] as const;
const MARKS = { from: '<!-- results -->\n', to: '<!-- end of results -->' };

type Version = keyof typeof RELEASES;
type Suite = (typeof SUITES)[number];

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly startTime: number;
    readonly endTime: number;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/** A column of the table: the result of each suite with one QEMU. */
interface Column {
  readonly heading: string;
  readonly cells: ReadonlyMap<string, string>;
}

function must(program: string, args: readonly string[], env = process.env): string {
  const { status, stdout } = spawnSync(program, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}`);
  return stdout;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Runs the suites with the QEMU of the release, and prints at once the failed tests and their errors. */
function tried(release: string, suites: readonly Suite[]): Column {
  const folder = join(CACHE, release);
  must(join(import.meta.dirname, 'qemu-root.sh'), [release, folder]);
  const env = { ...process.env, PATH: `${join(folder, 'bin')}:${process.env['PATH']}` };
  const version = must('qemu-system-x86_64', ['--version'], env).split('\n')[0]?.replace('QEMU emulator version ', '');
  const heading = `${version}, ${release}`;
  say(`${heading}:`);
  const output = join(CACHE, `${release}.json`);
  rmSync(output, { force: true });
  const files = suites.map((suite) => `test/qemu/${suite}.test.ts`);
  const args = ['run', '--project', 'qemu', '--reporter=json', `--outputFile.json=${output}`];
  spawnSync('vitest', [...args, ...files], { env, cwd: REPOSITORY, stdio: ['ignore', 'ignore', 'inherit'] });
  const { testResults } = JSON.parse(readFileSync(output, 'utf8')) as Report;
  const cells = suites.map((suite): [string, string] => {
    const result = testResults.find(({ name }) => basename(name) === `${suite}.test.ts`);
    const tests = result?.assertionResults ?? [];
    const count = (...statuses: string[]) => tests.filter(({ status }) => statuses.includes(status)).length;
    const [bad, skipped] = [count('failed'), count('pending', 'skipped', 'todo')];
    const cell = [
      `${count('passed')} passed`,
      ...(bad > 0 ? [`${bad} failed`] : []),
      ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ].join(', ');
    // A suite that could not be loaded has no tests, and is not a success.
    if (bad > 0 || tests.length === 0) process.exitCode = 1;
    const seconds = result === undefined ? 0 : Math.round((result.endTime - result.startTime) / 1000);
    say(`  ${suite}: ${cell} (${seconds} s)`);
    for (const { status, fullName, failureMessages = [] } of tests)
      if (status === 'failed') say([`FAILED: ${fullName}`, ...failureMessages].join('\n'));
    return [suite, cell];
  });
  return { heading, cells: new Map(cells) };
}

function columnsOf(table: string): Column[] {
  const rows = table
    .trimEnd()
    .split('\n')
    .map((row) => row.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')));
  const [head = [], , ...body] = rows;
  return head.slice(1).map((heading, index) => ({
    heading,
    cells: new Map(body.map(([suite = '', ...cells]) => [suite, cells[index] ?? ''])),
  }));
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |\n`;
}

function tableOf(columns: readonly Column[]): string {
  const head = ['suite', ...columns.map(({ heading }) => heading)];
  const body = SUITES.map((suite) => line([suite, ...columns.map(({ cells }) => cells.get(suite) ?? 'not run')]));
  return line(head) + line(head.map(() => '---')) + body.join('');
}

/** Renews the release's column of the table, and leaves the others. */
function write(release: string, column: Column): void {
  const page = readFileSync(PAGE, 'utf8');
  const [before = '', rest = ''] = page.split(MARKS.from);
  const [table = '', after = ''] = rest.split(MARKS.to);
  const known = columnsOf(table);
  const columns = Object.values(RELEASES).map((one) =>
    one === release ? column : known.find(({ heading }) => heading.endsWith(`, ${one}`)),
  );
  const all = columns.filter((one) => one !== undefined);
  writeFileSync(PAGE, before + MARKS.from + tableOf(all) + MARKS.to + after);
}

const words = process.argv.slice(2);
const isVersion = (word: string): word is Version => word in RELEASES;
const versions = words.filter(isVersion);
const suites = SUITES.filter((suite) => words.includes(suite));
const unknown = words.filter((word) => !isVersion(word) && !SUITES.some((suite) => suite === word));
if (unknown.length > 0)
  throw new Error(
    `${unknown.join(', ')}: no version (${Object.keys(RELEASES).join(', ')}) or suite (${SUITES.join(', ')})`,
  );

mkdirSync(CACHE, { recursive: true });
for (const [version, release] of Object.entries(RELEASES)) {
  if (versions.length > 0 && !versions.some((one) => one === version)) continue;
  const column = tried(release, suites.length === 0 ? SUITES : suites);
  if (suites.length === 0) write(release, column);
}
