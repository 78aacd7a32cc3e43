/** One pass over the descriptors of all processes, for many searches. It asks no file system but /proc: it never blocks. */
import { mountsOf } from './mounts.ts';
import { descriptorsOf, filesAmong, type OpenFile, processes } from './proc.ts';

/** The kernel's numbers of a file; undefined if it does not show them, or for a device. */
export interface KernelsNumbers {
  readonly inode?: string;
  /** The number of its file system. */
  readonly device?: number | undefined;
}

export type Search =
  /** `names`: the kernel's, as `socket:[4711]`. */
  | { readonly is: 'SOCKETS'; readonly names: ReadonlySet<string> }
  | {
      readonly is: 'FILE';
      readonly numbers: KernelsNumbers;
      /** Only those that may write to it. */
      readonly toWrite: boolean;
      /** Processes that are left out. */
      readonly besides: readonly number[];
    };

/** A descriptor of the sockets; or one that may be of the file: the file system behind `link` has to be asked. */
export interface FoundDescriptor {
  readonly pid: number;
  readonly link: string;
  readonly name: string;
}

/** For each search, in the order of the processes. */
export type AllFound = readonly (readonly FoundDescriptor[])[];

/** Pauses after each process. */
export function* passFor(searches: readonly Search[]): Generator<void, AllFound> {
  const wanted = searches.map((search) => ({ search, found: new Array<FoundDescriptor>(), others: new Set<string>() }));
  const wantsFiles = searches.some(({ is }) => is === 'FILE');
  for (const pid of processes()) {
    const descriptors = descriptorsOf(pid) ?? [];
    const files = wantsFiles ? filesAmong(pid, descriptors) : [];
    for (const { search, found, others } of wanted) {
      if (search.is === 'FILE' && search.besides.includes(pid)) continue;
      const those =
        search.is === 'SOCKETS'
          ? descriptors.filter(({ name }) => search.names.has(name))
          : files.filter((file) => mayBe(search.numbers, file) && isNew(file, search, others));
      for (const { link, name } of those) found.push({ pid, link, name });
    }
    yield;
  }
  return wanted.map(({ found }) => found);
}

/** Whether its file system has to be asked whether it is the file. Another file system may hang. */
export function mayBe({ inode, device }: KernelsNumbers, file: OpenFile): boolean {
  // It may be a loop device over the searched file.
  if (file.name.startsWith('/dev/')) return true;
  if (file.inode !== undefined && inode !== undefined && file.inode !== inode) return false;
  // Files of two file systems may have the same number.
  const its = device === undefined || file.mount === undefined ? undefined : mountsOf(file.pid).get(file.mount)?.device;
  return its === undefined || its === device;
}

/** Most processes share a few files, for example /dev/null: each mount and inode is given once. */
function isNew(
  { mount, inode, isWritable }: OpenFile,
  search: Extract<Search, { is: 'FILE' }>,
  others: Set<string>,
): boolean {
  if (search.toWrite && !isWritable) return false;
  // One holder of the file may close it before it is looked at.
  if (inode === undefined || inode === search.numbers.inode) return true;
  const key = `${mount}:${inode}`;
  const isFirst = !others.has(key);
  others.add(key);
  return isFirst;
}
