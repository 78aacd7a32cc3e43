/** The first bytes of an image, and that no bytes at all mislead the reader. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOf, longestBackingFile, readImageHeader, snapshotCount } from '../../../../src/core/disk/image-header.ts';
import { qcow2 } from '../../../support/images/qcow2-header.ts';

const PLAIN = {
  format: 'QCOW2',
  version: 3,
  virtualSizeBytes: 4096,
  backingFile: '',
  backingFormat: '',
  externalData: false,
  encryption: 'NONE',
  tables: { offset: 0, bytes: 0 },
};

describe('the name of a backing file', () => {
  // QEMU 5.2 to 11.1 takes 376 and 888 bytes in images with the smallest clusters, where they have no bitmaps.
  it.each([
    [512, 256],
    [1024, 768],
    [2048, 1023],
    [65_536, 1023],
  ])('in clusters of %i bytes has room for %i', (cluster, most) => {
    expect(longestBackingFile(cluster)).toBe(most);
  });

  it('is counted in bytes', () => {
    expect(['', '/a b', '/größe', '/😀%41'].map(bytesOf)).toEqual([0, 4, 8, 8]);
  });
});

describe('the number of internal snapshots', () => {
  it('is in the first bytes of a qcow2 header, and nowhere else', () => {
    const bytes = qcow2();
    new DataView(bytes.buffer).setUint32(60, 3);
    expect([bytes, bytes.subarray(0, 71), bytes.subarray(1), qcow2(), new Uint8Array()].map(snapshotCount)).toEqual([
      3, 0, 0, 0, 0,
    ]);
    new DataView(bytes.buffer).setUint32(4, 1);
    expect(snapshotCount(bytes)).toBe(0);
  });
});

describe('a qcow2 header', () => {
  it.each([2, 3])('of version %i says size, backing file and its format', (version) => {
    expect(readImageHeader(qcow2({ version }))).toEqual({ ...PLAIN, version });
    const backed = qcow2({ version, backingFile: '../größe.qcow2', backingFormat: 'qcow2' });
    expect(readImageHeader(backed)).toEqual({
      ...PLAIN,
      version,
      backingFile: '../größe.qcow2',
      backingFormat: 'qcow2',
    });
  });

  it('reports data in another file, and encryption', () => {
    expect(readImageHeader(qcow2({ incompatible: 4n }))).toEqual({ ...PLAIN, externalData: true });
    // In version 2 the same bytes are something else.
    expect(readImageHeader(qcow2({ version: 2, backingFormat: 'raw' }))).toMatchObject({ externalData: false });
    expect(readImageHeader(qcow2({ crypt: 1 }))).toEqual({ ...PLAIN, encryption: 'AES' });
    expect(readImageHeader(qcow2({ crypt: 2 }))).toEqual({ ...PLAIN, encryption: 'LUKS' });
  });

  it.each<[string, Uint8Array]>([
    ['cut off', qcow2().subarray(0, 71)],
    ['of version 3, cut off', qcow2().subarray(0, 103)],
    ['of version 4', qcow2({ version: 4 })],
    ['of an encryption that nobody knows', qcow2({ crypt: 3 })],
    ['with clusters of 256 bytes', qcow2({ clusterBits: 8 })],
    ['with clusters of 4 MiB', qcow2({ clusterBits: 22 })],
    ['with more bytes than there are', qcow2({ size: 2n ** 63n })],
    ['with a name beyond the first cluster', qcow2({ nameAt: 65_530n, nameBytes: 10 })],
    ['with a name beyond everything', qcow2({ nameAt: 2n ** 63n, nameBytes: 10 })],
    ['with a name of 1024 bytes', qcow2({ nameAt: 200n, nameBytes: 1024 })],
    ['with a name that holds a NUL', qcow2({ nameAt: 200n, nameBytes: 10 })],
    ['shorter than a header', qcow2({ headerBytes: 71 })],
    ['longer than the file', qcow2({ headerBytes: 65_537 })],
  ])('%s is damaged', (_name, bytes) => {
    expect(readImageHeader(bytes).format).toBe('DAMAGED');
  });

  it('with an extension beyond its end names no format, and is not read beyond it', () => {
    const bytes = qcow2({ backingFile: 'base', backingFormat: 'raw' });
    new DataView(bytes.buffer).setUint32(108, 0xffff_fff0);
    expect(readImageHeader(bytes)).toEqual({ ...PLAIN, backingFile: 'base' });
  });
});

describe('other bytes', () => {
  it.each<[string, number, string]>([
    ['qed', 0, 'QED\0'],
    ['vmdk', 0, 'KDMV'],
    ['vmdk', 0, '# Disk DescriptorFile'],
    ['vhdx', 0, 'vhdxfile'],
    ['vpc', 0, 'conectix'],
    ['vdi', 64, '\x7f\x10\xda\xbe'],
    ['luks', 0, 'LUKS\xba\xbe'],
  ])('are known as %s', (name, at, magic) => {
    const bytes = new Uint8Array(512);
    bytes.set(Buffer.from(magic, 'latin1'), at);
    expect(readImageHeader(bytes)).toEqual({ format: 'OTHER', name });
  });

  it('have no format: none is guessed', () => {
    for (const bytes of [new Uint8Array(0), new Uint8Array(4096), Buffer.from('QFI'), Buffer.from('a boot sector')]) {
      expect(readImageHeader(bytes)).toEqual({ format: 'NONE' });
    }
    expect(readImageHeader(qcow2({ version: 1 }))).toEqual({ format: 'OTHER', name: 'qcow' });
  });

  it('whatever they are, are read to an end, and the names are in them', () => {
    const hostile = fc
      .tuple(
        fc.constantFrom(qcow2(), qcow2({ version: 2 }), qcow2({ backingFile: 'b', backingFormat: 'raw' })),
        fc.array(fc.tuple(fc.nat({ max: 300 }), fc.nat({ max: 255 })), { maxLength: 40 }),
        fc.nat({ max: 400 }),
      )
      .map(([header, changes, length]) => {
        const bytes = header.slice(0, length < 300 ? length : undefined);
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 500 }), hostile), (bytes) => {
        const header = readImageHeader(bytes);
        const names = header.format === 'QCOW2' ? [header.backingFile, header.backingFormat] : [];
        for (const name of names) expect(Buffer.from(bytes).includes(name)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
