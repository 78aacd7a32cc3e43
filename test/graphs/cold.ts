/** The contents of an image for a process of its own that opens it by its name, its format and its header. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../support/real-qemu/qemu.ts';
import type { Link } from './chain.ts';
import type { Contents } from './contents.ts';
import { WrongOutcome } from './wrong.ts';

export interface Viewer {
  readonly scratch: string;
  /** The command that starts the process, if names mean something else there. */
  readonly under?: readonly string[];
  /** A QEMU has it open, and writes nothing now. */
  readonly isLive?: boolean;
}

export async function expectShows(
  what: string,
  { path, open }: Pick<Link, 'path' | 'open'>,
  expected: Contents,
  viewer: Viewer,
): Promise<void> {
  const bytes = await read([`json:${JSON.stringify(open)}`], viewer);
  const difference = expected.differsFrom(bytes);
  if (difference !== undefined) throw new WrongOutcome(`${what}, ${path} shows ${difference}`);
}

export async function expectSnapshot({ path, snapshot }: Link, viewer: Viewer): Promise<void> {
  if (snapshot === undefined) return;
  const bytes = await read(['-l', 'snapshot.name=monday', path], viewer);
  // If the image has grown since, qemu-img shows its size now.
  const difference = snapshot.differsFrom(bytes.subarray(0, snapshot.sizeBytes));
  if (difference !== undefined) throw new WrongOutcome(`the snapshot in ${path} shows ${difference}`);
}

export async function read(image: readonly string[], { scratch, under = [], isLive = false }: Viewer): Promise<Buffer> {
  const to = join(scratch, 'shown');
  const convert = ['qemu-img', 'convert', ...(isLive ? ['-U'] : []), '-O', 'raw', ...image, to] as const;
  await run('env', [...under, ...convert]);
  const bytes = await readFile(to);
  await rm(to);
  return bytes;
}
