/**
 * The end of a pull, or of a commit of lower images: one header drops the images whose data was moved. The disk is
 * opened by that header the next time. So the data has to be on stable storage before the header is written, and that
 * is proved by reading the header back, never by QEMU's word.
 */
import type { ImageHeader } from '../disk/image-header.ts';

export interface NodeOfImage {
  readonly node: string;
  readonly path: string;
}

export interface Handover {
  /** The image that takes the data: the active image of a pull, the base of a commit. */
  readonly data: NodeOfImage;
  /** The image whose header drops the images below it: the active image of a pull, the one above a commit's top. */
  readonly overlay: NodeOfImage & { readonly format: string };
  /** The backing file that the header names then; '' for none. */
  readonly backingFile: string;
}

/** The state of the header on stable storage. */
export type HeaderOnDisk =
  /** It names the new backing file. */
  | { readonly is: 'NEW' }
  /** It names another one, as before. */
  | { readonly is: 'OLD'; readonly backingFile: string }
  | { readonly is: 'UNKNOWN'; readonly why: string };

/** The images that a job has written to, each once. */
export function writtenImages({ data, overlay }: Handover): readonly NodeOfImage[] {
  return data.node === overlay.node ? [overlay] : [data, overlay];
}

/** `isSameFile`: whether two names, the first from the overlay's header, lead to the same file. */
export async function headerOnDisk(
  { overlay, backingFile: wanted }: Handover,
  header: ImageHeader,
  isSameFile: (named: string, wanted: string) => Promise<boolean>,
): Promise<HeaderOnDisk> {
  // Raw has no header: the guest may have written something that looks like one.
  const read = header.format === 'QCOW2' ? header.backingFile : undefined;
  const found = overlay.format === 'raw' ? '' : read;
  if (found === undefined) return { is: 'UNKNOWN', why: `${overlay.path} has no header that this service reads` };
  const isWanted = found === wanted || (found !== '' && wanted !== '' && (await isSameFile(found, wanted)));
  return isWanted ? { is: 'NEW' } : { is: 'OLD', backingFile: found };
}
