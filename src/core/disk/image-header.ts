/**
 * The contents of an image's first bytes. The file may be hostile: every length is bounded by the bytes at hand, and no
 * file that a header names is opened.
 *
 * Layout: QEMU docs/interop/qcow2.rst. Other formats are only recognised.
 */

export interface Qcow2Header {
  readonly format: 'QCOW2';
  readonly version: 2 | 3;
  readonly virtualSizeBytes: number;
  /** '' for none. The text of the header: a path relative to the image's folder, or a URL. */
  readonly backingFile: string;
  /** '' if the header does not say it. */
  readonly backingFormat: string;
  /** Whether the guest's data is in another file, which the header names. */
  readonly externalData: boolean;
  readonly encryption: 'NONE' | 'AES' | 'LUKS';
  /** Whether the L1 table is all zeroes, so that the image has no data of the guest. */
  readonly tables: { readonly offset: number; readonly bytes: number };
}

export type ImageHeader =
  | Qcow2Header
  /** A format that this service only recognises. */
  | { readonly format: 'OTHER'; readonly name: string }
  | { readonly format: 'DAMAGED'; readonly why: string }
  /** No known format: a raw image, or an empty file. */
  | { readonly format: 'NONE' };

/** The first bytes of an image hold every qcow2 header, its extensions and its backing file's name (2 MiB clusters). */
export const HEADER_BYTES = 2 * 1024 * 1024;

/**
 * The drivers with which an image of a destination's own chain may be opened read-only. None of them opens a second
 * file by itself if its backing image is given.
 */
export const READ_ONLY_DRIVERS: ReadonlySet<string> = new Set(['raw', 'qcow2', 'vdi', 'vpc', 'vhdx', 'parallels']);

/** The length in version 2; later versions have longer ones. */
export const LEAST_HEADER_BYTES = 72;

const QCOW2_MAGIC = 'QFI\xfb';
const MAGICS: readonly (readonly [name: string, offset: number, bytes: string])[] = [
  ['qed', 0, 'QED\0'],
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, 'COWD'],
  ['vmdk', 0, '# Disk DescriptorFile'],
  ['vhdx', 0, 'vhdxfile'],
  ['vpc', 0, 'conectix'],
  ['vdi', 0x40, '\x7f\x10\xda\xbe'],
  ['luks', 0, 'LUKS\xba\xbe'],
  ['parallels', 0, 'WithoutFreeSpace'],
  ['parallels', 0, 'WithouFreSpacExt'],
  ['bochs', 0, 'Bochs Virtual HD Image'],
  ['cloop', 0, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop'],
];

const EXTENSION = { end: 0, backingFormat: 0xe2792aca };
const INCOMPATIBLE_EXTERNAL_DATA = 1n << 2n;
/** The encryption by its number. */
const ENCRYPTIONS = ['NONE', 'AES', 'LUKS'] as const;
const TABLE_ENTRY_BYTES = 8;
/** qcow2.rst: "at most 1023 bytes". */
const LONGEST_BACKING_FILE = 1023;
/** The bytes of a header with its extensions: 136 with a format's name alone; other extensions add to it. */
const OTHER_BYTES = 256;
/** QEMU's default. */
export const DEFAULT_CLUSTER_BYTES = 65_536;

/** The longest name for which QEMU certainly has room: in small clusters it shares the first one with the header. */
export function longestBackingFile(clusterBytes: number): number {
  return Math.min(LONGEST_BACKING_FILE, clusterBytes - OTHER_BYTES);
}

/** QEMU's count of the bytes of a name. */
export function bytesOf(name: string): number {
  return encodeURIComponent(name).replaceAll(/%[0-9A-F]{2}/g, '.').length;
}

export function readImageHeader(bytes: Uint8Array): ImageHeader {
  if (startsWith(bytes, 0, QCOW2_MAGIC)) return qcow2(bytes);
  const other = MAGICS.find(([, offset, magic]) => startsWith(bytes, offset, magic));
  return other === undefined ? { format: 'NONE' } : { format: 'OTHER', name: other[0] };
}

/** The number of internal snapshots in a qcow2 image, from its first bytes. 0 for other images. */
export function snapshotCount(bytes: Uint8Array): number {
  if (!startsWith(bytes, 0, QCOW2_MAGIC) || bytes.length < LEAST_HEADER_BYTES) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(4) === 1 ? 0 : view.getUint32(60);
}

function startsWith(bytes: Uint8Array, offset: number, magic: string): boolean {
  return Array.from(magic, (character) => character.charCodeAt(0)).every((byte, at) => bytes[offset + at] === byte);
}

function qcow2(bytes: Uint8Array): ImageHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < LEAST_HEADER_BYTES) return damaged('its header is truncated');
  const version = view.getUint32(4);
  if (version === 1) return { format: 'OTHER', name: 'qcow' };
  if (version !== 2 && version !== 3) return damaged(`it has version ${version}`);
  if (version === 3 && bytes.length < 104) return damaged('its header is truncated');
  const clusterBits = view.getUint32(20);
  if (clusterBits < 9 || clusterBits > 21) return damaged(`its clusters have 2^${clusterBits} bytes`);
  const size = view.getBigUint64(24);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) return damaged(`it says that it has ${size} bytes`);
  const headerBytes = version === 2 ? 72 : view.getUint32(100);
  if (headerBytes < 72 || headerBytes > bytes.length) return damaged(`its header has ${headerBytes} bytes`);

  const nameAt = Number(view.getBigUint64(8));
  const nameBytes = view.getUint32(16);
  if (nameAt !== 0 && nameBytes > LONGEST_BACKING_FILE) {
    return damaged(`its backing file's name has ${nameBytes} bytes`);
  }
  if (nameAt !== 0 && nameAt + nameBytes > Math.min(bytes.length, 2 ** clusterBits)) {
    return damaged("its backing file's name is outside the first cluster");
  }
  const backingFile = nameAt === 0 ? '' : text(bytes.subarray(nameAt, nameAt + nameBytes));
  const end = nameAt === 0 ? Math.min(bytes.length, 2 ** clusterBits) : nameAt;
  const backingFormat = extension(view, headerBytes, end);
  if (backingFile === undefined || backingFormat === undefined) return damaged('a name in its header is not UTF-8');
  const encryption = ENCRYPTIONS[view.getUint32(32)];
  if (encryption === undefined) return damaged(`its encryption has the number ${view.getUint32(32)}`);
  const incompatible = version === 2 ? 0n : view.getBigUint64(72);
  return {
    format: 'QCOW2',
    version,
    virtualSizeBytes: Number(size),
    backingFile,
    backingFormat,
    externalData: (incompatible & INCOMPATIBLE_EXTERNAL_DATA) !== 0n,
    encryption,
    tables: { offset: Number(view.getBigUint64(40)), bytes: view.getUint32(36) * TABLE_ENTRY_BYTES },
  };
}

function damaged(why: string): ImageHeader {
  return { format: 'DAMAGED', why };
}

/** The name of the backing format among the header extensions; '' if it is missing, or if they are invalid. */
function extension(view: DataView, from: number, end: number): string | undefined {
  for (let at = from; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION.end || at + 8 + length > end) return '';
    if (type === EXTENSION.backingFormat) {
      return text(new Uint8Array(view.buffer, view.byteOffset + at + 8, Math.min(length, LONGEST_BACKING_FILE)));
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return '';
}

function text(bytes: Uint8Array): string | undefined {
  // TextDecoder does not belong to the language, and this file may import nothing.
  try {
    const percent = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
    const decoded = decodeURIComponent(percent);
    return decoded.includes('\0') ? undefined : decoded;
  } catch {
    return undefined;
  }
}
