/** The file to which an image's header alone leads, and whether that is the file of the guest's disk. */

import type { Image } from './chain.ts';
import { resolveFrom } from './chain-images.ts';
import { STORAGES } from './drivers.ts';

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
