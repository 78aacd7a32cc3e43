/** Once, before the tests of what is published: the build, and the packages. */
import { join } from 'node:path';
import { needs } from '../support/means.ts';
import { run } from '../support/qemu.ts';
import { REPOSITORY } from '../support/service.ts';

export async function setup(): Promise<void> {
  const scripts = needs('packages') ? ['build.ts'] : ['build.ts', 'packages.ts'];
  for (const script of scripts) await run(process.execPath, [join(REPOSITORY, 'build', script)]);
}
