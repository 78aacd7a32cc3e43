/** The images at the start of the recorded cases: of each kind of source, and of each kind of destination. */
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { present } from '../checks.ts';
import { type ChainImage, type ImageFormat, makeChain, run, testDir } from '../real-qemu/qemu.ts';
import { SCALE } from './golden.ts';

/** The recorded size. */
export const RECORDED_SIZE = 64 << 20;
const SIZE = RECORDED_SIZE / SCALE;
/** The byte that fills raw-garbage, also where the source has zeroes. */
const GARBAGE = 0x5a;

/** `-rel`: the headers name the backing files relatively. `flat`: one image. */
export type SourceKind = 'qcow2-chain' | 'qcow2-chain-rel' | 'qcow2-flat' | 'raw';
export type DeviceKind = 'blockdev-64M' | 'blockdev-80M';
export const DEVICE_BYTES: Readonly<Record<DeviceKind, number>> = {
  'blockdev-64M': SIZE,
  'blockdev-80M': (80 << 20) / SCALE,
};

export type DestinationKind =
  | DeviceKind
  | 'absent'
  | 'zero-length-file'
  | 'raw-zero'
  | 'raw-garbage'
  | 'raw-smaller'
  | 'qcow2-empty'
  | 'qcow2-smaller'
  | 'qcow2-bigger'
  | 'qcow2-relbacking'
  | 'directory'
  | 'vmdk'
  | 'luks'
  | 'character-device'
  | 'raw-qcow2-magic'
  | 'raw-qcow2-magic-9'
  | 'relbacking-no-format'
  | 'relbacking-missing'
  | 'backing-is-snap1'
  | 'flat-snap1-qcow2'
  | 'flat-snap1-raw'
  | 'over-other-v2'
  | 'over-other-v3';

export async function formatOf(path: string): Promise<ImageFormat> {
  await using file = await open(path, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return bytesRead === 4 && buffer.toString('latin1') === 'QFI\u00fb' ? 'qcow2' : 'raw';
}

export async function makeSource(folder: string, source: SourceKind, sizeBytes = SIZE): Promise<readonly ChainImage[]> {
  if (source === 'qcow2-chain' || source === 'qcow2-chain-rel') {
    const relative = source === 'qcow2-chain-rel';
    return await makeChain(folder, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes, relative });
  }
  const format = source === 'raw' ? 'raw' : 'qcow2';
  const [image] = await makeChain(folder, { formats: [format], sizeBytes });
  const path = join(folder, format === 'raw' ? 'disk.raw' : 'flat.qcow2');
  await rename(present(image).path, path);
  return [{ format, path }];
}

async function qcow2(...more: string[]): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...more]);
}

/** Makes a folder with the files at the destination: `copy.img`, and the images that it names. */
export async function makeDestination(
  kind: DestinationKind,
  folder: string,
  source: { readonly kind: SourceKind; readonly folder: string },
): Promise<void> {
  await mkdir(folder);
  const copy = join(folder, 'copy.img');
  const sized = async (...more: string[]) =>
    void (await run('qemu-img', ['create', '-q', ...more, copy, String(SIZE)]));
  const raw = async (bytes: number, byte: number) => await writeFile(copy, Buffer.alloc(bytes, byte));
  /** Zeroes except for its first bytes. */
  const beginning = async (first: string) => {
    await raw(SIZE, 0);
    await using file = await open(copy, 'r+');
    await file.write(first, 0, 'latin1');
  };
  const snap1 = async (format: ImageFormat) => {
    // It copies its own chain, not the one that a QEMU has open.
    await using own = await testDir();
    const [, image] = await makeChain(own.path, { formats: ['qcow2', 'qcow2'], sizeBytes: SIZE });
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', format, present(image).path, copy]);
  };
  /** The same contents as in the source's own images: only the names that the headers hold differ. */
  const chain = async () => {
    await makeChain(folder, { formats: ['qcow2', 'qcow2'], sizeBytes: SIZE, relative: true });
    await qcow2('-b', 'snap1.qcow2', '-F', 'qcow2', copy);
  };
  const overOther = async (...more: string[]) => {
    await writeFile(join(folder, 'under.raw'), Buffer.alloc(SIZE, GARBAGE));
    await qcow2(...more, '-b', 'under.raw', '-F', 'raw', copy);
  };
  switch (kind) {
    case 'zero-length-file':
      return await raw(0, 0);
    case 'raw-zero':
      return await raw(SIZE, 0);
    case 'raw-garbage':
      return await raw(SIZE, GARBAGE);
    case 'raw-smaller':
      return await raw(SIZE / 2, 0);
    case 'raw-qcow2-magic':
      return await beginning('QFI\u00fb\0\0\0\u0003');
    case 'raw-qcow2-magic-9':
      return await beginning('QFI\u00fb\0\0\0\u0009');
    case 'qcow2-empty':
      return await qcow2(copy, String(SIZE));
    case 'qcow2-smaller':
      return await qcow2(copy, String(SIZE / 2));
    case 'qcow2-bigger':
      return await qcow2(copy, String(SIZE * 2));
    case 'vmdk':
      return await sized('-f', 'vmdk');
    case 'luks':
      return await beginning('LUKS\u00ba\u00be\0\u0001');
    case 'qcow2-relbacking':
      return source.kind === 'raw' ? await overOther() : await chain();
    case 'relbacking-no-format': {
      await chain();
      const bytes = await readFile(copy);
      // The header extension with the backing format becomes the end of the extensions.
      bytes.fill(0, bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca])), 512);
      bytes.write('snap1.qcow2', Number(bytes.readBigUInt64BE(8)), 'latin1');
      return await writeFile(copy, bytes);
    }
    case 'relbacking-missing':
      await chain();
      return await rm(join(folder, 'snap1.qcow2'));
    case 'backing-is-snap1':
      return await qcow2('-u', '-b', join(source.folder, 'snap1.qcow2'), '-F', 'qcow2', copy, String(SIZE));
    case 'flat-snap1-qcow2':
      return await snap1('qcow2');
    case 'flat-snap1-raw':
      return await snap1('raw');
    case 'over-other-v2':
      return await overOther('-o', 'compat=0.10');
    case 'over-other-v3':
      return await overOther('-o', 'compat=1.1');
    case 'absent':
    case 'directory':
    case 'character-device':
    case 'blockdev-64M':
    case 'blockdev-80M':
      throw new Error(`${kind} is not a file`);
  }
}
