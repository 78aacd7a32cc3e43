/** qcow2 headers made by hand, right and wrong ones, for tests of their readers. */

export interface Qcow2 {
  readonly version?: number;
  readonly size?: bigint;
  readonly clusterBits?: number;
  readonly backingFile?: string;
  readonly backingFormat?: string;
  readonly nameAt?: bigint;
  readonly nameBytes?: number;
  readonly incompatible?: bigint;
  readonly crypt?: number;
  readonly headerBytes?: number;
  readonly tableAt?: bigint;
  readonly tableEntries?: number;
}

/** A header as QEMU writes it (docs/interop/qcow2.rst). */
export function qcow2(of: Qcow2 = {}): Uint8Array {
  const { version = 3, size = 4096n, clusterBits = 16, backingFile = '', backingFormat = '' } = of;
  const bytes = new Uint8Array(65_536);
  const view = new DataView(bytes.buffer);
  const put = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  bytes.set([0x51, 0x46, 0x49, 0xfb]);
  view.setUint32(4, version);
  view.setUint32(20, clusterBits);
  view.setBigUint64(24, size);
  view.setUint32(32, of.crypt ?? 0);
  view.setUint32(36, of.tableEntries ?? 0);
  view.setBigUint64(40, of.tableAt ?? 0n);
  const headerBytes = version === 2 ? 72 : 104;
  if (version > 2) {
    view.setBigUint64(72, of.incompatible ?? 0n);
    view.setUint32(100, of.headerBytes ?? headerBytes);
  }
  let at = headerBytes;
  if (backingFormat !== '') {
    view.setUint32(at, 0xe2792aca);
    view.setUint32(at + 4, backingFormat.length);
    put(at + 8, backingFormat);
    at += 8 + Math.ceil(backingFormat.length / 8) * 8;
  }
  at += 8;
  if (backingFile !== '' || of.nameAt !== undefined) {
    view.setBigUint64(8, of.nameAt ?? BigInt(at));
    view.setUint32(16, of.nameBytes ?? new TextEncoder().encode(backingFile).length);
    put(at, backingFile);
  }
  return bytes;
}
