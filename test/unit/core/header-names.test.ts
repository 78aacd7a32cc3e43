import { describe, expect, it } from 'vitest';
import { fileNamed, namesFormat } from '../../../src/core/disk/chain-images.ts';

describe('the names in the header of an image', () => {
  it.each([
    ['/b/base', '/b/base'],
    ['base', '/a/base'],
    ['../b/./base', '/b/base'],
    ['./nbd:base', '/a/nbd:base'],
    ['file:/b/base', '/b/base'],
    ['file:base', '/a/base'],
    ['json:{"driver": "raw", "offset": 512, "file": {"driver": "file", "filename": "/b/base"}}', '/b/base'],
    ['json:{"driver": "raw", "file.filename": "/b/base"}', '/b/base'],
    ['json:{"driver": "nbd", "host": "h"}', undefined],
    ['json:{', undefined],
    ['nbd://h/export', undefined],
  ])('%s: a file or none', (backingFile, file) => {
    expect(fileNamed({ path: '/a/top', backingFile, backingFormat: '' })).toBe(file);
  });

  it.each([
    ['qcow2', 'qcow2', true],
    ['raw', 'qcow2', false],
    ['qcow2', 'raw', false],
    ['raw', 'raw', true],
    // A node of the storage alone.
    ['raw', 'file', true],
    ['raw', 'host_device', true],
    // It is probed.
    ['', 'vmdk', true],
  ])('the format %s, and QEMU has it as %s: %s', (backingFormat, format, fits) => {
    expect(namesFormat({ path: '/a', backingFile: 'b', backingFormat }, { format, layers: [] })).toBe(fits);
  });

  it('the format in a json: name is its own, and layers have none', () => {
    const header = { path: '/a', backingFile: 'b', backingFormat: 'raw' };
    expect(namesFormat({ ...header, backingFile: 'json:{}' }, { format: 'qcow2', layers: [] })).toBe(true);
    expect(namesFormat(header, { format: 'qcow2', layers: ['luks'] })).toBe(true);
  });
});
