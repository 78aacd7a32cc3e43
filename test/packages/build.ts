/** Builds the program and the packages once, for the tests of the published files, while other tests run. */
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
