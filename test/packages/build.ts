/** Once, before the tests of what is published: the build, and the packages. */
import { join } from 'node:path';
import { needs } from '../support/means.ts';
import { run } from '../support/qemu.ts';
import { REPOSITORY } from '../support/service.ts';

/** On a busy machine compression alone takes minutes. */
const BUILD_MS = 600_000;

export async function setup(): Promise<void> {
  const scripts = needs('packages') ? ['build.ts'] : ['build.ts', 'packages.ts'];
  for (const script of scripts)
    await run(process.execPath, [join(REPOSITORY, 'build', script)], { timeoutMs: BUILD_MS });
}
