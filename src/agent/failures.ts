/** What QEMU, the monitor and the file system say when they say no, in the words of the catalogue. */
import { BlockJobError, type Failure, failure } from '../core/errors.ts';
import { isNoRoom } from '../core/qemu/no-room.ts';
import { invalidField } from '../core/rules/rule.ts';
import { NotSent, OutcomeUnknown, QmpError, Refused } from '../qmp/errors.ts';

/** QEMU cannot be asked now, or its answer was lost: what was asked may have happened. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof OutcomeUnknown || error instanceof NotSent;
}

/** QEMU has no node of this name; 5.2 says it in other words than those after it. */
export function isNoSuchNode(error: unknown): boolean {
  return error instanceof Refused && /(?:failed to|cannot) find node/i.test(error.desc);
}

/** Undefined for what is none of these: a bug. */
export function failureFrom(
  error: unknown,
  about: { domain: string; path: string; doing: string },
): Failure | undefined {
  if (error instanceof BlockJobError) return error.failure;
  if (error instanceof Refused) return refused(error.qemuClass, error.desc, about);
  if (error instanceof QmpError) return failure('QEMU_UNREACHABLE', { domain: about.domain, why: error.message });
  return fileSystem(error, about.path);
}

/**
 * QEMU's texts are for people and may change; they only choose between a better and a general reason here, and
 * travel whole in the metadata.
 */
export function refused(
  qemuClass: string,
  desc: string,
  about: { domain: string; path: string; doing: string },
): Failure {
  const qemu = { qemuClass, qemuText: desc };
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
  // Only an NBD server tells its size too late to be asked before: to a mirror, or to a comparison.
  if (/different sizes|smaller or equal to the\s+actual size/i.test(desc)) {
    const sizes = { destinationBytes: 'another number of', sourceBytes: 'its own' };
    return failure('SIZE_MISMATCH', { path: about.path, ...sizes }, qemu);
  }
  return failure('QEMU_REFUSED', { doing: about.doing, qemuText: desc }, { qemuClass });
}

function fileSystem(error: unknown, path: string): Failure | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return failure('DESTINATION_MISSING', { path });
    case 'EEXIST':
    case 'EISDIR':
      return failure('DESTINATION_EXISTS', { path });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ELOOP':
      return failure('ACCESS_DENIED', { path, why: code });
    case 'ENAMETOOLONG':
      return invalidField('destination.file', 'is too long for its file system').failure;
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return failure('NO_SPACE', { path, why: code });
    default:
      return undefined;
  }
}
