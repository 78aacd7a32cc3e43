/** The facts on disk, computed from evidence at every moment of a job. UNKNOWN is allowed, a guess is not. */

export type DestinationContent =
  /** Not a copy yet, and useless if the job ended. */
  | 'PARTIAL'
  /** READY: each write of the guest goes to both sides. Not to be used before the job has ended. */
  | 'MIRRORED'
  /** A complete copy as of `asOf`; while the guest runs on it, the disk itself. */
  | 'COMPLETE'
  /** Was MIRRORED, then ended without a last flush: the newest writes may be missing. Not to be used. */
  | 'STALE'
  | 'UNKNOWN';

export interface Evidence {
  readonly source: 'JOURNAL' | 'QEMU_JOB' | 'QEMU_GRAPH' | 'QEMU_PROCESS' | 'FILE_SYSTEM';
  readonly text: string;
  /** The journal's revision with the evidence. */
  readonly revision: number;
}

export interface SafeFile {
  readonly path: string;
  readonly warning: string;
  /** The shared storage of the file, for example `nfs4`: the warning says that other hosts were not asked. */
  readonly sharedStorage?: string;
}

export interface Outcome {
  /** The image that the guest's device writes to; undefined if it is not known, or no guest is left. */
  readonly guestWritesTo: string | undefined;
  /** When that was recorded, RFC 3339. Undefined in older journals. */
  readonly guestAsOf?: string;
  /** The newest later job of the disk that moved the guest, or found it elsewhere; determined at each request. */
  readonly guestChangedBy?: string;
  /** The newest later job that had the destination in its disk, or wrote to it; determined at each request. */
  readonly destinationChangedBy?: string;
  /** Undefined for a job without a copy: a pull, or a commit of lower images. */
  readonly destinationContent: DestinationContent | undefined;
  /** The point in time of a COMPLETE copy, RFC 3339. Undefined if it is the live disk. */
  readonly asOf: string | undefined;
  /** This job made the destination's file, and removed it again: it never became a copy. */
  readonly destinationRemoved: boolean;
  readonly safeToDelete: readonly SafeFile[];
  readonly evidence: readonly Evidence[];
  /** The path to which the VM's configuration must be set back. Undefined if it is right, or that is not known. */
  readonly setConfigBackTo?: string;
}

/** A fact about a file on shared storage, as the continuation of a sentence. */
export function onShared(storage: string): string {
  return `it is on ${storage}: other hosts may have it open, and were not asked`;
}
