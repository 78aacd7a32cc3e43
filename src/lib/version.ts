/** The version of this program's package, and the commit of its build, which `make build` adds. */
import { readFileSync } from 'node:fs';

interface Manifest {
  readonly version: string;
  /** Absent if it runs from its sources. */
  readonly build?: string;
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Manifest;

export const VERSION = manifest.version;
export const BUILD = manifest.build ?? 'dev';
