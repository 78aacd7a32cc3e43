import { describe, expect, it } from 'vitest';
import {
  failureFrom,
  isNoSuchNode,
  isUnreachable,
  qemuFailure,
  stateFailureFrom,
} from '../../../../src/agent/qemu/failures.ts';
import { catalogue } from '../../../../src/core/catalogue.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import { NotSent, OutcomeUnknown, Refused } from '../../../../src/qmp/errors.ts';

const ABOUT = { domain: 'vm1', path: '/copies/disk', doing: 'blockdev-add' };

describe('the words of the file system', () => {
  it.each([
    ['ENOENT', 'DESTINATION_MISSING'],
    ['EEXIST', 'DESTINATION_EXISTS'],
    ['EISDIR', 'DESTINATION_EXISTS'],
    ['EACCES', 'ACCESS_DENIED'],
    ['EPERM', 'ACCESS_DENIED'],
    ['EROFS', 'ACCESS_DENIED'],
    ['ELOOP', 'ACCESS_DENIED'],
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
    ['EFBIG', 'FILE_TOO_LARGE'],
    ['EMFILE', 'LIMIT_REACHED'],
    ['ENFILE', 'LIMIT_REACHED'],
    ['EIO', 'STORAGE_FAILED'],
    ['ESTALE', 'STORAGE_FAILED'],
  ])('%s is %s, with the path', (code, reason) => {
    const error = Object.assign(new Error(`${code}: no`), { code });
    expect(failureFrom(error, ABOUT)).toMatchObject({ reason, metadata: { path: '/copies/disk' } });
  });

  it('is a bug if it is anything else', () => {
    const ours = [failed('EBADF', 'fdatasync'), failed('EFAULT', 'read')];
    const others = [new Error('x'), Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_VALUE' }), 'ENOSPC', null];
    for (const error of [...ours, ...others, undefined]) expect(failureFrom(error, ABOUT)).toBeUndefined();
  });
});

function failed(code: string, syscall: string) {
  return Object.assign(new Error(code), { code, syscall });
}

describe('an error of the file system is reported with what to do', () => {
  it.each([
    ['EPERM', 'fchown', 'EPERM (fchown): chown: only root'],
    ['EPERM', 'open', 'EPERM (open): the file is immutable'],
    ['EROFS', 'open', 'the file system is read-only'],
    ['EMFILE', 'open', 'the service reached a limit of the system at /copies/disk: EMFILE; raise its limit'],
    ['ENFILE', 'open', 'fs.file-max'],
    ['ESTALE', 'fdatasync', 'storage failed: using /copies/disk: ESTALE; its server no longer knows it'],
    ['EIO', 'fdatasync', 'check the log of the kernel'],
    ['EFBIG', 'ftruncate', 'use a file system that allows larger files'],
    ['ENOTDIR', 'open', 'destination.file: uses a file as a folder'],
    ['EILSEQ', 'open', 'destination.file: contains characters that its file system does not support'],
    ['EBUSY', 'open', 'destination /copies/disk is in use: EBUSY (open): the kernel uses it'],
    ['ETXTBSY', 'open', 'destination /copies/disk is in use: ETXTBSY (open): it is running as a program'],
    ['ENOKEY', 'open', 'the key of its encrypted folder is not loaded'],
    ['EBADMSG', 'read', 'its file system is damaged: check it'],
    ['ENOMEDIUM', 'open', 'its drive is empty'],
    ['EINVAL', 'fchown', 'using /copies/disk (fchown): EINVAL; its file system does not support this'],
    ['ENOTSUP', 'ftruncate', 'using /copies/disk (ftruncate): ENOTSUP; its file system does not support this'],
    ['EOVERFLOW', 'open', 'using /copies/disk (open): EOVERFLOW; its file system does not support this'],
  ])('%s of %s: %s', (code, syscall, words) => {
    expect(failureFrom(failed(code, syscall), ABOUT)?.text).toContain(words);
  });
});

it.each(['ENOENT', 'ENOTDIR', 'EEXIST', 'EISDIR', 'ENAMETOOLONG', 'EILSEQ', 'EBUSY', 'ETXTBSY'])(
  '%s of the state folder is not a destination',
  (code) => {
    const error = Object.assign(new Error(code), { code });
    expect(stateFailureFrom(error, '/state/jobs')).toMatchObject({
      reason: 'STORAGE_FAILED',
      text: expect.stringContaining(code) as string,
      metadata: { path: '/state/jobs' },
    });
  },
);

/** Each in the words of QEMU 5.2, 7.2, 10.0 and 11.1, if they differ. */
describe('the words of QEMU about an NBD server', () => {
  const about = { ...ABOUT, path: 'nbds://h:1/disk0' };
  it.each([
    ["No TLS credentials with id 'nope'", 'TLS_CREDENTIALS_UNUSABLE'],
    ["Object with id 'sec0' is not TLS credentials", 'TLS_CREDENTIALS_UNUSABLE'],
    ['Expecting TLS credentials with a client endpoint', 'TLS_CREDENTIALS_UNUSABLE'],
    ['Expected TLS credentials for a client endpoint', 'TLS_CREDENTIALS_UNUSABLE'],
    ['Requested export not available', 'NBD_REFUSED'],
    ['Denied by server for option 5 (starttls)', 'NBD_REFUSED'],
    ['TLS negotiation required before option 7 (go)', 'NBD_REFUSED'],
    ['Failed to read option reply: Cannot read from TLS channel: Software caused connection abort', 'NBD_REFUSED'],
    [
      'Failed to read option reply: Cannot read from TLS channel: The TLS connection was non-properly terminated.',
      'NBD_REFUSED',
    ],
    ["The certificate hasn't got a known issuer", 'NBD_REFUSED'],
    ['Certificate does not match the hostname other.example', 'NBD_REFUSED'],
    ["Parameter 'tls-hostname' is unexpected", 'NBD_REFUSED'],
    ['TLS only supported over IP sockets', 'NBD_REFUSED'],
    ['NBD export is read-only', 'NBD_REFUSED'],
    ['Could not open image: Permission denied', 'NBD_REFUSED'],
    ["Failed to connect to '127.0.0.1:1': Connection refused", 'DESTINATION_UNREACHABLE'],
    ["Failed to connect to '/x/nbd.sock': No such file or directory", 'DESTINATION_UNREACHABLE'],
    ['Failed to read option reply: Unable to read from socket: Connection reset by peer', 'DESTINATION_UNREACHABLE'],
    ['Bad server magic received: 0x42028186125300', 'DESTINATION_UNREACHABLE'],
    ['Bad initial magic received: 0x6761726261676521', 'DESTINATION_UNREACHABLE'],
    ['address resolution failed for no.such:1: Name or service not known', 'DESTINATION_UNREACHABLE'],
    ['Failed to create socket family 2: Too many open files', 'LIMIT_REACHED'],
    ["Failed to connect to '127.0.0.1:1': Too many open files", 'LIMIT_REACHED'],
    ['Failed to read data: Cannot allocate memory', 'LIMIT_REACHED'],
  ])('%s: %s', (desc, reason) => {
    const found = qemuFailure('GenericError', desc, about);
    expect(found).toMatchObject({ reason, metadata: { qemuText: desc, qemuClass: 'GenericError', path: about.path } });
  });
});

const said = (desc: string) => isNoSuchNode(new Refused('blockdev-del', 'GenericError', desc));

describe('the words of QEMU', () => {
  it('about a node that it does not have are recognized in all its versions', () => {
    // 5.2, twice, and the later ones.
    const words = ['Cannot find node x', "Cannot find node named 'x'", "Failed to find node with node-name='x'"];
    expect(words.map(said)).toEqual([true, true, true]);
    expect(said('Node x is in use')).toBe(false);
    expect(isNoSuchNode(new Error('Cannot find node x'))).toBe(false);
  });

  it.each([
    ['Could not resize file: No space left on device', 'NO_SPACE'],
    ['Could not resize file: Disk quota exceeded', 'NO_SPACE'],
    ['Could not resize file: File too large', 'FILE_TOO_LARGE'],
    ["Could not open '/copies/disk': Too many open files", 'LIMIT_REACHED'],
    ["Could not open '/copies/disk': Too many open files in system", 'LIMIT_REACHED'],
    ['Could not read image: Input/output error', 'STORAGE_FAILED'],
    ["Could not open '/copies/disk': Stale file handle", 'STORAGE_FAILED'],
    ["Could not open '/copies/disk': No such file or directory", 'REFUSED_BY_QEMU'],
    ["Could not open '/dev/sdb': Device or resource busy", 'DESTINATION_IN_USE'],
    ["Could not open '/copies/disk': Permission denied", 'ACCESS_DENIED'],
    ['Invalid argument', 'REFUSED_BY_QEMU'],
    ['Could not open: Read-only file system', 'ACCESS_DENIED'],
    ['chown: Operation not permitted', 'ACCESS_DENIED'],
    ['Failed to get "write" lock', 'DESTINATION_IN_USE'],
    ['Failed to get shared "write" lock', 'DESTINATION_IN_USE'],
    ["No secret with id 's0'", 'SECRET_NOT_FOUND'],
    ["Object with id 's0' is not a secret", 'SECRET_NOT_FOUND'],
    ['Invalid password, cannot unlock any keyslot', 'SECRET_WRONG'],
    [
      'The sum of offset (0) and size (8) has to be smaller or equal to the  actual size of the containing file (4)',
      'EXPORT_SIZE_DIFFERS',
    ],
    ['Duplicate nodes with node-name', 'REFUSED_BY_QEMU'],
  ])('%s: %s, with the text and the class', (desc, reason) => {
    const found = failureFrom(new Refused('blockdev-add', 'GenericError', desc), ABOUT);
    expect(found).toMatchObject({ reason, metadata: { qemuText: desc, qemuClass: 'GenericError' } });
    expect(found).toEqual(qemuFailure('GenericError', desc, ABOUT));
  });

  it('are empty when it does not answer', () => {
    for (const error of [new NotSent('query-jobs', 'no connection'), new OutcomeUnknown('query-jobs', 'timeout')]) {
      expect(isUnreachable(error)).toBe(true);
      expect(failureFrom(error, ABOUT)).toMatchObject({
        reason: 'QEMU_UNREACHABLE',
        text: expect.stringContaining(error.message) as string,
        metadata: { domain: 'vm1' },
      });
    }
    expect(isUnreachable(new Refused('quit', 'GenericError', 'no'))).toBe(false);
  });
});

it('our own failure stays as it is', () => {
  const own = failure('DISK_EMPTY', { domain: 'vm1', disk: 'cd0' });
  expect(failureFrom(new BlockJobError(own), ABOUT)).toBe(own);
});

it('words of QEMU that no table knows are quoted, and are not a bug', () => {
  const found = qemuFailure('GenericError', 'Something "new"', ABOUT);
  expect(found.metadata).toEqual({
    domain: 'vm1',
    qemuText: 'Something "new"',
    qemuClass: 'GenericError',
  });
  expect(found.text).toBe(
    'QEMU of domain vm1 reported an error (blockdev-add): "Something "new""; correct the cause (the log of QEMU may say more), and try again',
  );
  expect(catalogue[found.reason].code).toBe('FAILED_PRECONDITION');
});
