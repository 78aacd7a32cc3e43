/** An image of a chain to test with. */
import type { Image } from '../../../src/core/disk/chain.ts';

/** A qcow2 of no size, with nothing below it, except for the given fields. */
export function anImage(of: Partial<Image> & Pick<Image, 'path'>): Image {
  return {
    node: of.path,
    format: 'qcow2',
    storage: undefined,
    virtualSizeBytes: 0,
    allocatedBytes: 0,
    clusterSizeBytes: undefined,
    extendedL2: false,
    readOnly: false,
    encrypted: false,
    layers: [],
    filters: [],
    dataFile: '',
    isPart: false,
    snapshots: [],
    backingFile: '',
    backingFormat: '',
    bitmaps: [],
    ...of,
  };
}
