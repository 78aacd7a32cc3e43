/** Packages from npm, unpacked below .cache. Each is downloaded once. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFEST, ROOT, run } from './places.ts';

/** The machine's npm may be old, and npm 9.2 has no `npm sbom`. */
const NPM_VERSION = '11.19.1';

/** Returns the folder of the package. */
function published(name: string, version: string): string {
  const folder = join(ROOT, '.cache', `${name}-${version}`);
  if (!existsSync(join(folder, 'package/LICENSE'))) {
    mkdirSync(folder, { recursive: true });
    const tarball = run(folder, 'npm', 'pack', '--silent', `${name}@${version}`).trim();
    run(folder, 'tar', '-xzf', tarball);
  }
  return join(folder, 'package');
}

/**
 * The pinned Node for Linux: the folder with its bin/node and its LICENSE. node_modules does not have all of it,
 * because npm removes files there that an install script has made, including the licence. The architecture has Node's
 * name for it.
 */
export function linuxNode(architecture: string): string {
  return published(`node-linux-${architecture}`, MANIFEST.devDependencies['node'] ?? '');
}

/** Runs an npm of a known version to its end, in a folder. */
export function npm(folder: string, ...args: readonly string[]): string {
  return run(folder, process.execPath, join(published('npm', NPM_VERSION), 'bin/npm-cli.js'), ...args);
}
