/** Once, for the tests of what is published, and while other tests run: the build, and the packages. */
import { join } from 'node:path';
import { needs } from '../support/means.ts';
import { beginToMake } from '../support/meanwhile.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

/** On a busy machine compression alone takes minutes. */
const BUILD_MS = 600_000;

export async function setup(): Promise<(() => Promise<void>) | undefined> {
  const scripts = needs('packages') ? ['build.ts'] : ['build.ts', 'packages.ts'];
  return await beginToMake('packages', async () => {
    for (const script of scripts)
      await run(process.execPath, [join(REPOSITORY, 'build', script)], { timeoutMs: BUILD_MS });
  });
}
