/** The errors of QEMU, of the monitor and of the file system, as failures of the catalogue. */

import { errnoIn, failureOfCall, failureOfErrno, isNoRoom } from '../../core/errno.ts';
import { BlockJobError, type Failure, failure } from '../../core/errors.ts';
import { isNbd, nbdFailure } from '../../core/qemu/nbd-words.ts';
import { NotSent, OutcomeUnknown, QmpError, Refused } from '../../qmp/errors.ts';

/** QEMU cannot be asked now, or its answer was lost: the command may have been carried out. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof OutcomeUnknown || error instanceof NotSent;
}

/** QEMU has no node of this name; 5.2 uses other words than later versions. */
export function isNoSuchNode(error: unknown): boolean {
  return error instanceof Refused && /(?:failed to|cannot) find node/i.test(error.desc);
}

/** Undefined for any other error: a bug. */
export function failureFrom(
  error: unknown,
  about: { domain: string; path: string; doing: string },
): Failure | undefined {
  if (error instanceof BlockJobError) return error.failure;
  if (error instanceof Refused) return qemuFailure(error.qemuClass, error.desc, about);
  if (error instanceof QmpError) return failure('QEMU_UNREACHABLE', { domain: about.domain, why: error.message });
  return failureOfCall(error, about.path);
}

/** The failure of a write into a folder of the service's own. Undefined for a bug. */
export function stateFailureFrom(error: unknown, path: string): Failure | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  // There is no destination of a caller that could exist or be missing.
  if (!ANY_FILE.has(code) && !ONE_FILE.has(code)) return failureFrom(error, { domain: '', path, doing: '' });
  const wayOut = 'the state folder was changed by another process: restore its contents, and restart the service';
  return failure('STORAGE_FAILED', { doing: `writing into ${path}`, why: code, wayOut }, { path });
}

/** QEMU's texts may change: they only choose between a precise and a general reason. The metadata has them in full. */
export function qemuFailure(
  qemuClass: string,
  desc: string,
  about: { domain: string; path: string; doing: string },
): Failure {
  const qemu = { qemuClass, qemuText: desc };
  const ofSystem = systemFailure(desc, about);
  // In any operation with a server.
  const isLimit = ofSystem?.reason === 'LIMIT_REACHED';
  const overNbd = isNbd(about.path) && !isLimit ? nbdFailure(desc, about) : undefined;
  if (overNbd !== undefined) return { ...overNbd, metadata: { ...overNbd.metadata, ...qemu } };
  if (isNoRoom(desc)) return failure('NO_SPACE', { path: about.path, why: desc }, qemu);
  if (/permission denied|operation not permitted|read-only file system/i.test(desc)) {
    return failure('ACCESS_DENIED', { path: about.path, why: desc }, qemu);
  }
  if (/failed to get .*lock/i.test(desc)) return failure('DESTINATION_IN_USE', { path: about.path, by: desc }, qemu);
  // It had the secret when the plan was made.
  const secretId = /(?:no secret|object) with id '([^']*)'/i.exec(desc)?.[1];
  if (secretId !== undefined) {
    return failure('SECRET_NOT_FOUND', { secretId, domain: about.domain, why: desc }, qemu);
  }
  if (/cannot unlock any keyslot/i.test(desc)) return failure('SECRET_WRONG', { path: about.path }, qemu);
  // Only an NBD server reports its size so late: to a mirror, or to a comparison.
  if (/different sizes|smaller or equal to the\s+actual size/i.test(desc)) {
    return failure('EXPORT_SIZE_DIFFERS', { path: about.path }, qemu);
  }
  if (ofSystem !== undefined) return { ...ofSystem, metadata: { ...ofSystem.metadata, ...qemu } };
  return failure('REFUSED_BY_QEMU', { domain: about.domain, doing: about.doing, qemuText: desc }, { qemuClass });
}

/** QEMU may mean any of the files that it uses: about existing and missing files only its own words count. */
const ANY_FILE: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'EEXIST', 'EISDIR', 'ENAMETOOLONG', 'EILSEQ']);
/** These concern a destination, too, and count if QEMU says them. */
const ONE_FILE: ReadonlySet<string> = new Set(['EBUSY', 'ETXTBSY']);

function systemFailure(desc: string, { path, domain }: { path: string; domain: string }): Failure | undefined {
  const errno = errnoIn(desc);
  if (errno === undefined || ANY_FILE.has(errno)) return undefined;
  return failureOfErrno(errno, { path, said: desc, call: '', program: `the QEMU of domain ${domain}` });
}
