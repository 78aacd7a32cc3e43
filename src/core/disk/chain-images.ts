/** The images of one chain by name: the image that a caller names, and the name of one image relative to another. */
import type { Disk, Image } from './chain.ts';
import { STORAGES } from './drivers.ts';

/** The description of a name that imageIndex does not find. */
export const NOT_IN_CHAIN = 'not an image of the chain';

/** `disk[2]`: the image at that index; top = 0. */
const INDEXED = /^(.+)\[(\d{1,9})\]$/;

/**
 * The index in the chain of the image with this name: an absolute path, `disk[index]`, the disk's own name (its active
 * image, as in libvirt), or a path relative to the folder of the image above it, as headers name it. `isDisk` says
 * whether a name is the name of this disk.
 */
export function imageIndex(disk: Disk, name: string, isDisk: (name: string) => boolean): number | undefined {
  const indexed = INDEXED.exec(name);
  if (indexed !== null && !name.startsWith('/')) {
    const [, which = '', index = ''] = indexed;
    return isDisk(which) && Number(index) < disk.chain.length ? Number(index) : undefined;
  }
  if (name === '') return undefined;
  if (isDisk(name)) return 0;
  const found = disk.chain.findIndex((image, index) => {
    const above = disk.chain[index - 1];
    return image.path === name || (above !== undefined && resolveFrom(above.path, name) === image.path);
  });
  return found === -1 ? undefined : found;
}

/**
 * The name of a lower image relative to the folder of a higher one, as the headers between the two give it; undefined
 * if one of them does not name its backing file relatively.
 */
export function relativeName(chain: readonly Image[], from: number, to: number): string | undefined {
  let name = '';
  for (const image of chain.slice(from, to)) {
    const { backingFile } = image;
    if (backingFile === '' || isAbsolute(backingFile)) return undefined;
    name = joined(folderOf(name), backingFile);
  }
  return name;
}

/** The path of the file that a header names, seen from the image with that header; undefined if it is not plain. */
export function resolveFrom(image: string, name: string): string | undefined {
  if (name.startsWith('/')) return plain(name);
  if (isAbsolute(name) || !image.startsWith('/')) return undefined;
  return plain(joined(folderOf(image), name));
}

/** Absolute, or with a protocol: json:{…}, nbd://… */
function isAbsolute(name: string): boolean {
  return name.startsWith('/') || /^[^/]*:/.test(name);
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1);
}

function joined(folder: string, name: string): string {
  return folder + (name.startsWith('./') ? name.slice(2) : name);
}

/** The path without `.`, `..` and doubled slashes. */
function plain(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

type Header = Pick<Image, 'path' | 'backingFile' | 'backingFormat'>;

/** The absolute path of the local file; undefined if the header names none, or in a form that is not read here. */
export function fileNamed({ path, backingFile }: Header): string | undefined {
  if (backingFile.startsWith('json:')) return fileIn(parsed(backingFile.slice('json:'.length)));
  return resolveFrom(path, backingFile.startsWith('file:') ? backingFile.slice('file:'.length) : backingFile);
}

/** `below`: the image that QEMU has below it. A format that is not named is probed. */
export function namesFormat({ backingFile, backingFormat }: Header, below: Pick<Image, 'format' | 'layers'>): boolean {
  // Such a name contains the format; and a header never describes the layers that QEMU was given as options.
  if (backingFormat === '' || backingFile.startsWith('json:') || below.layers.length > 0) return true;
  return backingFormat === (STORAGES.has(below.format) ? 'raw' : below.format);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `{"file": {"filename": …}}`, or flat: `{"file.filename": …}`. */
function fileIn(options: unknown): string | undefined {
  if (typeof options !== 'object' || options === null) return undefined;
  for (const [key, value] of Object.entries(options)) {
    const isName = key === 'filename' || key.endsWith('.filename');
    const found = isName && typeof value === 'string' ? value : fileIn(value);
    if (found?.startsWith('/') === true) return found;
  }
  return undefined;
}
