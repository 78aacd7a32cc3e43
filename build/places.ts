/** Where things come from and go to, and what this build is of. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
/** What `blockjobd` and `blockjob` run from, laid out as the repository is: package, image and Debian package are of it. */
export const PROGRAM = join(DIST, 'blockjobd');
export const CLIENT = join(DIST, 'blockjobd-client');
export const PACKAGES = join(DIST, 'packages');

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly type: string;
  readonly engines: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

export const MANIFEST = readJson(join(ROOT, 'package.json')) as Manifest;

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Runs a program to its end, in a folder; what it complains of is seen. */
export function run(folder: string, program: string, ...args: readonly string[]): string {
  const stdio: ('ignore' | 'pipe' | 'inherit')[] = ['ignore', 'pipe', 'inherit'];
  return execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio, maxBuffer: 1 << 26 });
}

/** The revision that the sources are of; "-dirty" if they are of no revision. */
export function revision(): string {
  const head = run(ROOT, 'git', 'rev-parse', '--short=12', 'HEAD').trim();
  return run(ROOT, 'git', 'status', '--porcelain').trim() === '' ? head : `${head}-dirty`;
}

/** When that was committed: the only time that is written into packages, so that the same sources give the same. */
export function commitTime(): Date {
  return new Date(run(ROOT, 'git', 'show', '-s', '--format=%cI', 'HEAD').trim());
}
