/** The input and output folders of the build, and its revision. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
/**
 * The folder of `blockjobd` and `blockjob`, with the layout of the repository. All packages and images come from it.
 */
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

/** Runs a program to its end, in a folder. Its errors are printed. */
export function run(folder: string, program: string, ...args: readonly string[]): string {
  const stdio: ('ignore' | 'pipe' | 'inherit')[] = ['ignore', 'pipe', 'inherit'];
  return execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio, maxBuffer: 1 << 26 });
}

/** The revision of the sources, with "-dirty" if they have changes. */
export function revision(): string {
  const head = run(ROOT, 'git', 'rev-parse', '--short=12', 'HEAD').trim();
  return run(ROOT, 'git', 'status', '--porcelain').trim() === '' ? head : `${head}-dirty`;
}

/** The time of that commit. Packages contain no other time, so that equal sources give equal packages. */
export function commitTime(): Date {
  return new Date(run(ROOT, 'git', 'show', '-s', '--format=%cI', 'HEAD').trim());
}
