/** As whose a new file is made: as the source's, if QEMU can open that again by owner and mode alone. */
import type { FileOwner } from '../job/step.ts';

/** The modes' own word for reading and writing. */
const READ_AND_WRITE = 0o6;
/** For one user, whom all of them know. */
export const PRIVATE = 0o600;

export interface FileAccess extends FileOwner {
  /** The lowest nine bits. */
  readonly mode: number;
}

/** A process, as far as files are concerned. */
export interface FileUser extends FileOwner {
  readonly groups: readonly number[];
}

export interface NewFile {
  readonly path: string;
  readonly source: string;
  /** Undefined: the source is no file of this host, or not proved to be QEMU's. */
  readonly sourceAccess: FileAccess | undefined;
  /** Undefined: its process is not seen. */
  readonly qemu: FileUser | undefined;
  readonly service: FileUser;
}

export interface NewFileAccess {
  /** Undefined: the service's own user. */
  readonly owner: FileOwner | undefined;
  readonly mode: number;
  /** What the VM's manager has to set before its next start, in words. */
  readonly toSet: readonly string[];
}

export function accessOfNew({ path, source, sourceAccess, qemu, service }: NewFile): NewFileAccess {
  const plain = { owner: qemu && pick(qemu), mode: PRIVATE };
  if (sourceAccess === undefined) return { ...plain, toSet: [] };
  const wanted = `${source} has owner ${sourceAccess.uid}:${sourceAccess.gid} and mode ${sourceAccess.mode.toString(8)}`;
  if (qemu !== undefined && !mayOpen(sourceAccess, qemu)) {
    const why = `and QEMU (${qemu.uid}:${qemu.gid}) can not open it by these alone (an ACL, or the right of another user)`;
    return { ...plain, toSet: [`${wanted}, ${why}: give ${path} what the VM needs for its next start`] };
  }
  if (!mayGive(service, sourceAccess)) {
    return { ...plain, toSet: [`${wanted}, which this service may not give: give them to ${path}`] };
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
