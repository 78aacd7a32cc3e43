/** What QEMU counts a raw image in; stat counts in as many bytes what a file takes. */
export const SECTOR_BYTES = 512;

/** As QEMU takes the length of a raw file: the last sector counts whole. */
export function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}
