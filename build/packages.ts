/** dist/packages: the tarballs that npm publishes, the Debian package, and what is in them, as CycloneDX and SPDX. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { debianPackage } from './debian.ts';
import { CLIENT, MANIFEST, PACKAGES, PROGRAM, run } from './places.ts';
import { npm } from './published.ts';

rmSync(PACKAGES, { recursive: true, force: true });
mkdirSync(PACKAGES, { recursive: true });
for (const folder of [PROGRAM, CLIENT]) {
  run(folder, 'npm', 'pack', '--silent', '--pack-destination', PACKAGES);
}
for (const [format, ending] of [
  ['cyclonedx', 'cdx'],
  ['spdx', 'spdx'],
] as const) {
  const args = ['sbom', '--package-lock-only', '--omit', 'dev', '--sbom-type', 'application', '--sbom-format', format];
  writeFileSync(join(PACKAGES, `blockjobd-${MANIFEST.version}.${ending}.json`), npm(PROGRAM, ...args));
}
debianPackage();
const names = readdirSync(PACKAGES).toSorted();
writeFileSync(join(PACKAGES, 'SHA256SUMS'), run(PACKAGES, 'sha256sum', ...names));
for (const name of [...names, 'SHA256SUMS']) process.stdout.write(`dist/packages/${name}\n`);
