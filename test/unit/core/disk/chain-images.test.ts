/** The image of a chain that a name means, and the name of one image in another. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import type { Disk } from '../../../../src/core/disk/chain.ts';
import { imageIndex, relativeName, resolveFrom } from '../../../../src/core/disk/chain-images.ts';
import { anImage } from '../../../support/images/image.ts';

const CHAIN = [
  anImage({ path: '/vm/top/a.qcow2', backingFile: '../mid/b.qcow2' }),
  anImage({ path: '/vm/mid/b.qcow2', backingFile: './sub/c.qcow2' }),
  anImage({ path: '/vm/mid/sub/c.qcow2', backingFile: '' }),
] as const;
const DISK: Disk = {
  id: 'vd0',
  qdev: 'vd0',
  backend: '',
  chain: CHAIN,
  filters: [],
  sharesWrites: false,
  blockJobs: [],
  cacheDirect: false,
  detectZeroes: 'off',
};
const indexOf = (name: string) => imageIndex(DISK, name, (which) => which === 'vd0');

describe('a name of an image', () => {
  it.each<[string, number | undefined]>([
    ['/vm/top/a.qcow2', 0],
    ['/vm/mid/b.qcow2', 1],
    ['/vm/mid/sub/c.qcow2', 2],
    ['../mid/b.qcow2', 1],
    ['sub/c.qcow2', 2],
    ['vd0', 0],
    ['other', undefined],
    ['vd0[0]', 0],
    ['vd0[2]', 2],
    ['vd0[3]', undefined],
    ['vd0[-1]', undefined],
    ['vd0[]', undefined],
    ['vd0[99999999999999]', undefined],
    ['other[1]', undefined],
    ['c.qcow2', undefined],
    ['a.qcow2', undefined],
    ['/vm/mid/../mid/b.qcow2', 1],
    ['/vm/mid/b', undefined],
    ['', undefined],
    ['/', undefined],
  ])('%s is image %s', (name, expected) => {
    expect(indexOf(name)).toBe(expected);
  });
});

describe('the relative name of a lower image', () => {
  it('follows the names in the headers', () => {
    expect(relativeName(CHAIN, 0, 1)).toBe('../mid/b.qcow2');
    expect(relativeName(CHAIN, 0, 2)).toBe('../mid/sub/c.qcow2');
    expect(relativeName(CHAIN, 1, 2)).toBe('sub/c.qcow2');
  });

  it.each(['/vm/mid/b.qcow2', 'nbd://host/x', 'json:{"driver":"raw"}', ''])(
    'is undefined if a header says "%s"',
    (name) => {
      expect(relativeName([anImage({ path: '/vm/a', backingFile: name }), CHAIN[2]], 0, 1)).toBeUndefined();
    },
  );
});

describe('the name in a header', () => {
  it.each<[string, string | undefined]>([
    ['b', '/vm/top/b'],
    ['../b', '/vm/b'],
    ['../../../../b', '/b'],
    ['/etc/x', '/etc/x'],
    ['/a//b/./c', '/a/b/c'],
    ['nbd://host/x', undefined],
    ['json:{"driver":"raw"}', undefined],
    ['file:/etc/passwd', undefined],
    // A colon behind a slash does not mark a protocol, as with QEMU.
    ['./a:b', '/vm/top/a:b'],
  ])('"%s" is %s', (name, expected) => {
    expect(resolveFrom('/vm/top/a.qcow2', name)).toBe(expected);
  });

  it('is nowhere, if the image itself is not a local file', () => {
    expect(resolveFrom('nbd://host/x', 'b')).toBeUndefined();
  });
});
