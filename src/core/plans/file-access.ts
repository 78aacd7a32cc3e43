/** The owner and mode of a new file: those of the source, if QEMU can open such a file again by owner and mode alone. */
import type { FileOwner } from '../job/step.ts';

/** Read and write in a mode. */
const READ_AND_WRITE = 0o6;
/** The mode for a single user. */
export const PRIVATE = 0o600;

export interface FileAccess extends FileOwner {
  /** The lowest nine bits. */
  readonly mode: number;
}

/** A process, with its rights on files. */
export interface FileUser extends FileOwner {
  readonly groups: readonly number[];
}

export interface NewFile {
  readonly path: string;
  readonly source: string;
  /** Undefined if the source is not a file of this host, or not proved to be QEMU's. */
  readonly sourceAccess: FileAccess | undefined;
  /** Undefined if its process is not visible. */
  readonly qemu: FileUser | undefined;
  readonly service: FileUser;
}

export interface NewFileAccess {
  /** Undefined for the service's own user. */
  readonly owner: FileOwner | undefined;
  readonly mode: number;
  /** Changes that the VM's manager has to make before the next start, in words. */
  readonly toSet: readonly string[];
}

export function accessOfNew({ path, source, sourceAccess, qemu, service }: NewFile): NewFileAccess {
  const plain = { owner: qemu && pick(qemu), mode: PRIVATE };
  if (sourceAccess === undefined) return { ...plain, toSet: [] };
  const wanted = `${source} has owner ${sourceAccess.uid}:${sourceAccess.gid} and mode ${sourceAccess.mode.toString(8)}`;
  if (qemu !== undefined && !mayOpen(sourceAccess, qemu)) {
    const why = `and QEMU (${qemu.uid}:${qemu.gid}) cannot open it by these alone (an ACL, or the rights of another user)`;
    return { ...plain, toSet: [`${wanted}, ${why}: give ${path} the rights that the VM needs for its next start`] };
  }
  if (!mayGive(service, sourceAccess)) {
    return { ...plain, toSet: [`${wanted}, which this service may not set: set them on ${path}`] };
  }
  return { owner: pick(sourceAccess), mode: sourceAccess.mode, toSet: [] };
}

function pick({ uid, gid }: FileOwner): FileOwner {
  return { uid, gid };
}

function mayOpen({ uid, gid, mode }: FileAccess, user: FileUser): boolean {
  if (user.uid === 0) return true;
  const shift = user.uid === uid ? 6 : isIn(gid, user) ? 3 : 0;
  return ((mode >> shift) & READ_AND_WRITE) === READ_AND_WRITE;
}

function mayGive(service: FileUser, { uid, gid }: FileAccess): boolean {
  return service.uid === 0 || (service.uid === uid && isIn(gid, service));
}

function isIn(gid: number, { gid: own, groups }: FileUser): boolean {
  return gid === own || groups.includes(gid);
}
