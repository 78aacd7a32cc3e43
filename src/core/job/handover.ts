/**
 * How a pull, or a commit of lower images, ends: one header lets go of the images whose data has been moved. Whoever
 * opens the disk next goes by that header. So the data has to be on stable storage before it is written, and it is
 * proved by reading it back, never by QEMU's word.
 */
import type { ImageHeader } from '../disk/image-header.ts';

export interface NodeOfImage {
  readonly node: string;
  readonly path: string;
}

export interface Handover {
  /** Takes the data: the active image of a pull, the base of a commit. */
  readonly data: NodeOfImage;
  /** Its header lets go of what was below it: the active image of a pull, the one above a commit's top. */
  readonly overlay: NodeOfImage & { readonly format: string };
  /** What that header is to name then; '' for nothing. */
  readonly backingFile: string;
}

/** What the header says on stable storage. */
export type HeaderOnDisk =
  /** What it is to say. */
  | { readonly is: 'NEW' }
  /** Something else: what it said before. */
  | { readonly is: 'OLD'; readonly backingFile: string }
  | { readonly is: 'UNKNOWN'; readonly why: string };

/** The images that a job has written to, each once. */
export function writtenImages({ data, overlay }: Handover): readonly NodeOfImage[] {
  return data.node === overlay.node ? [overlay] : [data, overlay];
}

/** `isSameFile`: whether two names, the first as the overlay's header has it, are of one file. */
export async function headerOnDisk(
  { overlay, backingFile: wanted }: Handover,
  header: ImageHeader,
  isSameFile: (named: string, wanted: string) => Promise<boolean>,
): Promise<HeaderOnDisk> {
  // Raw has no header: what looks like one is the guest's.
  const found = overlay.format === 'raw' ? '' : backingFileOf(header);
  if (found === undefined) return { is: 'UNKNOWN', why: `${overlay.path} has no header that this service reads` };
  const isWanted = found === wanted || (found !== '' && wanted !== '' && (await isSameFile(found, wanted)));
  return isWanted ? { is: 'NEW' } : { is: 'OLD', backingFile: found };
}

function backingFileOf(header: ImageHeader): string | undefined {
  return header.format === 'QCOW2' ? header.backingFile : undefined;
}
