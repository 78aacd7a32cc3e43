/** The unit in which QEMU counts a raw image, and stat counts the space that a file uses. */
export const SECTOR_BYTES = 512;

/** QEMU's length of a raw file: the last sector counts as a whole one. */
export function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}
