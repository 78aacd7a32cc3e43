/**
 * Before the first fleet of containers, and while other tests run, Docker is started and the images are built; after
 * the last one the former state is restored.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { beginToMake } from '../meanwhile.ts';
import { isRunning } from '../real-qemu/qemu.ts';
import { removeAll } from './belongings.ts';
import { images } from './images.ts';

export default async function setup(): Promise<() => Promise<void>> {
  const end = await beginToMake('images', async () => {
    // If Docker is not available, each suite decides what that means, by needs().
    if (!(await ready('start'))) throw new Error('there is no Docker');
    // Once for all suites: two that remove the same objects at a time disturb each other.
    await removeAll((pid) => !isRunning(pid));
    return await images();
  });
  return async () => {
    await end?.();
    await ready('stop');
  };
}

/** It prints its own progress, because it may take minutes. */
async function ready(what: 'start' | 'stop'): Promise<boolean> {
  const child = spawn('sh', [join(import.meta.dirname, 'ready.sh'), what], { stdio: 'inherit' });
  const [status] = await once(child, 'exit');
  return status === 0;
}
