/** Before the first fleet of containers Docker is made to answer, and the images are built; after the last one it is as before. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { type Images, images } from './images.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The images of a fleet's machines, or why there are none: an error of their suites, and of no other one. */
    readonly images: Images | string;
  }
}

export default async function setup(project: TestProject): Promise<() => void> {
  // Where Docker is not to be had each suite decides what that means, by needs().
  project.provide('images', ready('start') ? await images().catch(String) : 'there is no Docker');
  return () => void ready('stop');
}

/** It says itself what it does, which may take minutes. */
function ready(what: 'start' | 'stop'): boolean {
  const { status } = spawnSync('sh', [join(import.meta.dirname, 'ready.sh'), what], { stdio: 'inherit' });
  return status === 0;
}
