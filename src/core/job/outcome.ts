/**
 * What is true on disk. It is computed from evidence, at every moment of a job; UNKNOWN is allowed, a guess is not.
 */

export type DestinationContent =
  /** Not a copy yet: rubbish if the job ended. */
  | 'PARTIAL'
  /** READY: each guest write goes to both sides. Not a copy to be used before the job has ended. */
  | 'MIRRORED'
  /** A complete copy as of `asOf`; while the guest runs on it, the disk itself. */
  | 'COMPLETE'
  /** Was MIRRORED, and then ended without a last flush: newest writes may be missing. Not to be used. */
  | 'STALE'
  | 'UNKNOWN';

export interface Evidence {
  readonly source: 'JOURNAL' | 'QEMU_JOB' | 'QEMU_GRAPH' | 'QEMU_PROCESS' | 'FILE_SYSTEM';
  readonly text: string;
  /** The journal's revision that holds it. */
  readonly revision: number;
}

export interface SafeFile {
  readonly path: string;
  readonly warning: string;
  /** Which other hosts may have, too, and were not asked: `nfs4`. Then the warning says so. Undefined: this host alone has it. */
  readonly sharedStorage?: string;
}

export interface Outcome {
  /** The image that the guest's device writes to; undefined where that is not known, or no guest is left. */
  readonly guestWritesTo: string | undefined;
  /** When that was written down, RFC 3339. Undefined in older journals. */
  readonly guestAsOf?: string;
  /** The newest later job of the disk that has moved the guest, or found it elsewhere: told when it is asked for. */
  readonly guestChangedBy?: string;
  /** The newest later job that has had the destination in its disk, or has written to it: as above. */
  readonly destinationChangedBy?: string;
  /** Undefined for a job that makes no copy: a pull, or a commit of lower images. */
  readonly destinationContent: DestinationContent | undefined;
  /** The moment as of which a COMPLETE copy is true, RFC 3339. Undefined: it is the live disk. */
  readonly asOf: string | undefined;
  /** This job made the destination's file, and removed it again: it never became a copy. */
  readonly destinationRemoved: boolean;
  readonly safeToDelete: readonly SafeFile[];
  readonly evidence: readonly Evidence[];
}

/** What is true of a file on such storage, as a sentence goes on. */
export function onShared(storage: string): string {
  return `it is on ${storage}: other hosts may have it open, and were not asked`;
}
