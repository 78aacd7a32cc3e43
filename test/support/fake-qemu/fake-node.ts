/**
 * A node of the fake QEMU (fake-qemu.ts), and the properties of an image's file that a node needs: is it qcow2, how
 * large?
 */
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { qcow2 } from '../images/qcow2-header.ts';
import type { Json } from './fake-job.ts';

export interface Node {
  readonly name: string;
  readonly driver: string;
  readonly path: string;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  readonly children: readonly { readonly edge: string; readonly node: string }[];
}

export function describeNode({ name, driver, path, readOnly, sizeBytes }: Node): Json {
  const image = { filename: path, format: driver, 'virtual-size': sizeBytes, 'actual-size': 0, 'dirty-flag': false };
  const cache = { direct: false, 'no-flush': false, writeback: true };
  return {
    'node-name': name,
    drv: driver,
    file: path,
    ro: readOnly,
    image,
    cache,
    detect_zeroes: 'off',
    encrypted: false,
  };
}

// A qcow2 header, as far as is needed for its format and the size of its disk: docs/interop/qcow2.txt.
const QCOW2_MAGIC = 0x514649fb;

export function writeQcow2Header(path: string, sizeBytes: number): void {
  const header = Buffer.alloc(512);
  header.writeUInt32BE(QCOW2_MAGIC, 0);
  header.writeUInt32BE(3, 4);
  header.writeBigUInt64BE(BigInt(sizeBytes), 24);
  writeFileSync(path, header);
}

/** Writes the name of another image below it; '' for none. */
export function writeBackingFile(path: string, backingFile: string): void {
  const size = BigInt(qcow2SizeBytes(path) ?? 0);
  const file = openSync(path, 'r+');
  writeSync(file, qcow2({ size, backingFile, ...(backingFile === '' ? {} : { backingFormat: 'qcow2' }) }), 0);
  closeSync(file);
}

export function qcow2SizeBytes(path: string): number | undefined {
  const header = Buffer.alloc(32);
  const file = openSync(path, 'r');
  const read = readSync(file, header);
  closeSync(file);
  return read === 32 && header.readUInt32BE(0) === QCOW2_MAGIC ? Number(header.readBigUInt64BE(24)) : undefined;
}
