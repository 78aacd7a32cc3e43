/**
 * The pinned Node as npm publishes it for Linux. node_modules does not have all of it: npm takes away there what a
 * package has installed for itself, the licence, too.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFEST, ROOT, run } from './places.ts';

/** Gives the folder with its bin/node and its LICENSE; asks npm for it if it is not there. The architecture as Node names it. */
export function linuxNode(architecture: string): string {
  const name = `node-linux-${architecture}`;
  const version = MANIFEST.devDependencies['node'] ?? '';
  const folder = join(ROOT, '.cache', `${name}-${version}`);
  if (!existsSync(join(folder, 'package/LICENSE'))) {
    mkdirSync(folder, { recursive: true });
    const tarball = run(folder, 'npm', 'pack', '--silent', `${name}@${version}`).trim();
    run(folder, 'tar', '-xzf', tarball);
  }
  return join(folder, 'package');
}
