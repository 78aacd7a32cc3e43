/** Once, before the tests of what is built: the build. */
import { join } from 'node:path';
import { run } from '../support/qemu.ts';
import { REPOSITORY } from '../support/service.ts';

export async function setup(): Promise<void> {
  await run(process.execPath, [join(REPOSITORY, 'build/build.ts')]);
}
