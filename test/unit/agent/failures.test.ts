import { describe, expect, it } from 'vitest';
import { failureFrom, isNoSuchNode, isUnreachable, refused } from '../../../src/agent/failures.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { NotSent, OutcomeUnknown, Refused } from '../../../src/qmp/errors.ts';

const ABOUT = { domain: 'vm1', path: '/copies/disk', doing: 'blockdev-add' };

describe('what the file system says', () => {
  it.each([
    ['ENOENT', 'DESTINATION_MISSING'],
    ['ENOTDIR', 'DESTINATION_MISSING'],
    ['EEXIST', 'DESTINATION_EXISTS'],
    ['EISDIR', 'DESTINATION_EXISTS'],
    ['EACCES', 'ACCESS_DENIED'],
    ['EPERM', 'ACCESS_DENIED'],
    ['EROFS', 'ACCESS_DENIED'],
    ['ELOOP', 'ACCESS_DENIED'],
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
    ['EFBIG', 'NO_SPACE'],
  ])('%s is %s, with the path', (code, reason) => {
    const error = Object.assign(new Error(`${code}: no`), { code });
    expect(failureFrom(error, ABOUT)).toMatchObject({ reason, metadata: { path: '/copies/disk' } });
  });

  it('is a bug if it is anything else', () => {
    for (const error of [new Error('x'), Object.assign(new Error('x'), { code: 'EINVAL' }), 'ENOSPC', undefined, null])
      expect(failureFrom(error, ABOUT)).toBeUndefined();
  });
});

const said = (desc: string) => isNoSuchNode(new Refused('blockdev-del', 'GenericError', desc));

describe('what QEMU says', () => {
  it('of a node that it does not have, is known in the words of all its versions', () => {
    // 5.2, twice, and those after it.
    const words = ['Cannot find node x', "Cannot find node named 'x'", "Failed to find node with node-name='x'"];
    expect(words.map(said)).toEqual([true, true, true]);
    expect(said('Node x is in use')).toBe(false);
    expect(isNoSuchNode(new Error('Cannot find node x'))).toBe(false);
  });

  it.each([
    ['Could not resize file: No space left on device', 'NO_SPACE'],
    ['Could not resize file: Disk quota exceeded', 'NO_SPACE'],
    ['Could not resize file: File too large', 'NO_SPACE'],
    ["Could not open '/copies/disk': Permission denied", 'ACCESS_DENIED'],
    ['Could not open: Read-only file system', 'ACCESS_DENIED'],
    ['chown: Operation not permitted', 'ACCESS_DENIED'],
    ['Failed to get "write" lock', 'DESTINATION_IN_USE'],
    ['Failed to get shared "write" lock', 'DESTINATION_IN_USE'],
    ["No secret with id 's0'", 'SECRET_NOT_FOUND'],
    ["Object with id 's0' is not a secret", 'SECRET_NOT_FOUND'],
    ['Invalid password, cannot unlock any keyslot', 'SECRET_WRONG'],
    [
      'The sum of offset (0) and size (8) has to be smaller or equal to the  actual size of the containing file (4)',
      'SIZE_MISMATCH',
    ],
    ['Duplicate nodes with node-name', 'QEMU_REFUSED'],
  ])('%s: %s, with the text and the class', (desc, reason) => {
    const found = failureFrom(new Refused('blockdev-add', 'GenericError', desc), ABOUT);
    expect(found).toMatchObject({ reason, metadata: { qemuText: desc, qemuClass: 'GenericError' } });
    expect(found).toEqual(refused('GenericError', desc, ABOUT));
  });

  it('is nothing when it cannot be asked', () => {
    for (const error of [new NotSent('query-jobs', 'no connection'), new OutcomeUnknown('query-jobs', 'timeout')]) {
      expect(isUnreachable(error)).toBe(true);
      expect(failureFrom(error, ABOUT)).toMatchObject({
        reason: 'QEMU_UNREACHABLE',
        metadata: { domain: 'vm1', why: error.message },
      });
    }
    expect(isUnreachable(new Refused('quit', 'GenericError', 'no'))).toBe(false);
  });
});

it('our own failure stays as it is', () => {
  const own = failure('DISK_EMPTY', { domain: 'vm1', disk: 'cd0' });
  expect(failureFrom(new BlockJobError(own), ABOUT)).toBe(own);
});
