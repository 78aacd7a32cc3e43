/** The version of this program's package, and the commit of its build, which `make build` adds. */
import manifest from '../../package.json' with { type: 'json' };

interface Manifest {
  readonly version: string;
  /** Absent if it runs from its sources. */
  readonly build?: string;
}

export const { version: VERSION, build: BUILD = 'dev' }: Manifest = manifest;
