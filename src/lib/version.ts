/** What this program is: the version of its package, and what that was built from, which `make build` adds to it. */
import { readFileSync } from 'node:fs';

interface Manifest {
  readonly version: string;
  /** Absent: it runs from its sources. */
  readonly build?: string;
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Manifest;

export const VERSION = manifest.version;
export const BUILD = manifest.build ?? 'dev';
