/** Where the header of an image leads, as who opens it by that alone finds it; and whether the guest's disk goes the same way. */

import type { Image } from './chain.ts';
import { resolveFrom } from './chain-images.ts';
import { STORAGES } from './drivers.ts';

type Header = Pick<Image, 'path' | 'backingFile' | 'backingFormat'>;

/** The absolute path of the local file; undefined: it names none, or not in a way that is read here. */
export function fileNamed({ path, backingFile }: Header): string | undefined {
  if (backingFile.startsWith('json:')) return fileIn(parsed(backingFile.slice('json:'.length)));
  return resolveFrom(path, backingFile.startsWith('file:') ? backingFile.slice('file:'.length) : backingFile);
}

/** `below`: what QEMU has below it. A format that is not named is probed. */
export function namesFormat({ backingFile, backingFormat }: Header, below: Pick<Image, 'format' | 'layers'>): boolean {
  // The format is in such a name; and what QEMU was told of the layers no header says otherwise.
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
