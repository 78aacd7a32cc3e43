/** The version before this one, as test/fleet/previous has it. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../real-qemu/qemu.ts';

const ARCHIVE = join(import.meta.dirname, '../../fleet/previous/blockjobd.tar.gz');

export interface Previous {
  readonly version: string;
  readonly program: readonly [node: string, main: string];
}

/** Unpacks it into a new folder. */
export async function previousIn(folder: string): Promise<Previous> {
  await mkdir(folder);
  await run('tar', ['-x', '-f', ARCHIVE, '-C', folder]);
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Pick<Previous, 'version'>;
  return { version, program: [process.execPath, join(folder, 'bundle/src/main.mjs')] };
}
