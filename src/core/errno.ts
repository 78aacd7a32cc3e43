/**
 * The meaning of each error number of the system for a caller, in one table. Node reports the number for the service's
 * own calls; QEMU's texts end with the words of the C library for it. None of these is a bug of the service.
 */
import { type Failure, failure } from './errors.ts';
import { invalidField } from './rules/rule.ts';

export interface About {
  readonly path: string;
  /** The number, or QEMU's whole text. */
  readonly said: string;
  /** The system call that failed; '' if it is not known. */
  readonly call: string;
  /** The program that got the error. */
  readonly program: string;
}

type Row = readonly [words: string, of: (about: About) => Failure];

const denied =
  (hint: string) =>
  ({ path, said, call }: About): Failure => {
    // Only the owner of the file may give it to another user: the mode of the folder does not matter.
    const isChown = call.includes('chown');
    const what = isChown ? 'chown: only root, or a process with CAP_CHOWN, may give a file to another user' : hint;
    return failure('ACCESS_DENIED', { path, why: `${said}${call === '' ? '' : ` (${call})`}: ${what}` });
  };
const noSpace =
  (hint: string) =>
  ({ path, said }: About): Failure =>
    failure('NO_SPACE', { path, why: `${said}: ${hint}` });
const broken =
  (hint: string) =>
  ({ path, said }: About): Failure =>
    failure('STORAGE_FAILED', { doing: `using ${path}`, why: said, wayOut: hint }, { path });
const limit =
  (hint: string) =>
  ({ path, said, program }: About): Failure =>
    failure('LIMIT_REACHED', { program, path, why: said, wayOut: hint });
const inUse =
  (by: string) =>
  ({ path, said, call }: About): Failure =>
    failure('DESTINATION_IN_USE', { path, by: `${said}${call === '' ? '' : ` (${call})`}: ${by}` });
const missing = ({ path }: About): Failure => failure('DESTINATION_MISSING', { path });
const exists = ({ path }: About): Failure => failure('DESTINATION_EXISTS', { path });
const invalid = (problem: string) => (): Failure => invalidField('destination.file', problem).failure;

export const LOOK = 'check the log of the kernel, and the storage below it';

const ROWS: Readonly<Record<string, Row>> = {
  ENOENT: ['No such file or directory', missing],
  ENOTDIR: ['Not a directory', invalid('uses a file as a folder')],
  EEXIST: ['File exists', exists],
  EISDIR: ['Is a directory', exists],
  EILSEQ: [
    'Invalid or incomplete multibyte or wide character',
    invalid('contains characters that its file system does not support'),
  ],
  ENAMETOOLONG: ['File name too long', invalid('is too long for its file system')],
  EACCES: ['Permission denied', denied('its mode, or the mode of a folder above it, does not allow it')],
  EPERM: ['Operation not permitted', denied('the file is immutable, or a security policy forbids it')],
  EROFS: ['Read-only file system', denied('the file system is read-only')],
  ELOOP: ['Too many levels of symbolic links', denied('it is a symbolic link')],
  ENOKEY: ['Required key not available', denied('the key of its encrypted folder is not loaded')],
  EBUSY: ['Device or resource busy', inUse('the kernel uses it, as a mount, a swap space or a part of another device')],
  ETXTBSY: ['Text file busy', inUse('it is running as a program, or is a swap space')],
  ENOSPC: ['No space left on device', noSpace('the file system is full')],
  EDQUOT: ['Disk quota exceeded', noSpace('the quota is used up')],
  EFBIG: ['File too large', ({ path, said }) => failure('FILE_TOO_LARGE', { path, why: said })],
  EMFILE: ['Too many open files', limit('raise its limit of open files (LimitNOFILE, ulimit -n)')],
  ENFILE: ['Too many open files in system', limit('raise the limit of the whole host (fs.file-max)')],
  ENOMEM: ['Cannot allocate memory', limit('give it more memory')],
  EIO: ['Input/output error', broken(LOOK)],
  EREMOTEIO: ['Remote I/O error', broken(LOOK)],
  EUCLEAN: ['Structure needs cleaning', broken('its file system is damaged: check it')],
  EBADMSG: ['Bad message', broken('its file system is damaged: check it')],
  ENOMEDIUM: ['No medium found', broken('its drive is empty')],
  ESTALE: ['Stale file handle', broken('its server no longer knows it: mount the file system again')],
  ENXIO: ['No such device or address', broken('its device is gone')],
  ENODEV: ['No such device', broken('its device is gone')],
  ETIMEDOUT: ['Connection timed out', broken('its server does not answer')],
  ENOTCONN: ['Transport endpoint is not connected', broken('the server of its file system is gone: mount it again')],
  EHOSTDOWN: ['Host is down', broken('its server does not answer')],
};

/** Whether the storage itself has failed. */
export function isOfStorage(errno: string): boolean {
  return failureOfErrno(errno, { path: '', said: '', call: '', program: '' })?.reason === 'STORAGE_FAILED';
}

/** Undefined if the table does not have the number. */
export function failureOfErrno(errno: string, about: About): Failure | undefined {
  return ROWS[errno]?.[1](about);
}

/** A closed descriptor, an invalid address: only the service itself can cause these. */
const OURS: ReadonlySet<string> = new Set(['EBADF', 'EFAULT']);

/** The failure for an error of a system call of this service. Undefined for other errors, and its own faults. */
export function failureOfCall(error: unknown, path: string): Failure | undefined {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return undefined;
  const { code } = error;
  const call = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : '';
  const inTable = failureOfErrno(code, { path, said: code, call, program: 'the service' });
  if (inTable !== undefined || call === '' || OURS.has(code)) return inTable;
  const wayOut = 'its file system does not support this: check the log of the kernel, or use another file system';
  return failure('STORAGE_FAILED', { doing: `using ${path} (${call})`, why: code, wayOut }, { path });
}

/** The error number that QEMU's text ends with; undefined if there is none. */
export function errnoIn(qemuText: string): string | undefined {
  const text = qemuText.trimEnd();
  return Object.entries(ROWS).find(([, [words]]) => text.toLowerCase().endsWith(words.toLowerCase()))?.[0];
}

/** QEMU's words for a file that cannot grow because its file system or its owner's quota is full. */
const NO_ROOM = /no space left|disk quota exceeded/i;

export function isNoRoom(qemuText: string): boolean {
  return NO_ROOM.test(qemuText);
}
