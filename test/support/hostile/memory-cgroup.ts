/** A control group of the test with a memory limit; a process that takes more is killed. Needs root. */
import { readFileSync } from 'node:fs';
import { mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from '../checks.ts';

const ROOT = '/sys/fs/cgroup';

export interface MemoryCgroup extends AsyncDisposable {
  /** The beginning of a command line that runs in it. */
  readonly under: readonly string[];
}

/** The second version of control groups, or the first if the second does not control memory. */
export async function memoryCgroup(bytes: number, name = 'all'): Promise<MemoryCgroup> {
  const isSecond = controllers().includes('memory');
  if (isSecond) await writeFile(join(ROOT, 'cgroup.subtree_control'), '+memory');
  const folder = join(ROOT, isSecond ? '' : 'memory', `blockjobd-test-${process.pid}-${name}`);
  await mkdir(folder);
  try {
    await writeFile(join(folder, isSecond ? 'memory.max' : 'memory.limit_in_bytes'), String(bytes));
  } catch (error) {
    await rmdir(folder);
    throw error;
  }
  return {
    under: ['sh', '-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"', folder],
    [Symbol.asyncDispose]: async () => {
      // The kernel takes a moment to see that the last process has ended.
      await eventually(
        'the control group is empty',
        async () =>
          await rmdir(folder).then(
            () => true,
            () => undefined,
          ),
      );
    },
  };
}

function controllers(): readonly string[] {
  try {
    return readFileSync(join(ROOT, 'cgroup.controllers'), 'utf8').trim().split(' ');
  } catch {
    return [];
  }
}
