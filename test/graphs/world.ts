/** All files of a round: the kind and the contents of each, and the changes since. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hashOf } from '../support/checks.ts';

/** Inode, rights, owner and contents, by path. */
export type World = ReadonlyMap<string, string>;

export async function look(folder: string): Promise<World> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  const seen = await Promise.all(
    files.map(async (path): Promise<[string, string]> => {
      const stat = await lstat(path);
      const contents = stat.isFile() ? await hashOf(path) : '';
      return [path, `${stat.ino} ${stat.mode} ${stat.uid}:${stat.gid} ${contents}`];
    }),
  );
  return new Map(seen);
}

/** The files that were added, removed or changed, except the allowed ones. */
export function touched(before: World, after: World, may: ReadonlySet<string> = new Set()): readonly string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].flatMap((path) => {
    const [was, is] = [before.get(path), after.get(path)];
    if (was === is || may.has(path)) return [];
    return [`${path} ${was === undefined ? 'has come' : is === undefined ? 'is gone' : 'has changed'}`];
  });
}
