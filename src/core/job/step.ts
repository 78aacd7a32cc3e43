/**
 * A plan is data: the steps, and how to undo each of them. It is in the journal with the job, so that recovery depends
 * on the plan of that time, not on the plan that the present code would make.
 */

import type { QmpCommand } from '../qemu/commands.ts';
import type { Comparison } from './comparison.ts';
import type { Handover } from './handover.ts';

/** One action. Each may be repeated: doing it twice has the same effect as once. */
export type Action =
  /** A command that has happened when it has been answered. */
  | { readonly do: 'qmp'; readonly command: QmpCommand }
  /** A command that starts a QEMU job, and has happened when that job has concluded without error and is dismissed. */
  | { readonly do: 'qmp-job'; readonly command: QmpCommand; readonly qemuJob: string }
  /** Ends and dismisses a QEMU job in any state; a job that does not exist has ended. */
  | { readonly do: 'end-qmp-job'; readonly qemuJob: string }
  /** Makes a file that must not exist (O_EXCL), or takes over one that must exist and be empty; gives it a size. */
  | {
      readonly do: 'create-file';
      readonly path: string;
      /** Whether it existed when the plan was made: an empty file counts as absent, but is not ours. */
      readonly takeOver: boolean;
      readonly sizeBytes: number;
      readonly owner: FileOwner | undefined;
      /** 0600 if undefined, as in older journals. */
      readonly mode?: number;
    }
  /**
   * Proves that the node has the file open that this service sees at that path, before any data is written through it:
   * in another mount namespace the same path is another file. If /proc does not show it, QEMU's own word is used.
   */
  | {
      readonly do: 'prove-file';
      readonly node: string;
      readonly path: string;
      readonly isNew: boolean;
      /** The file at the time of the plan. Undefined if it was made later, or in older journals. */
      readonly file?: KnownFile;
      /** An image below the destination, which is only read. */
      readonly isBacking?: true;
    }
  /** Proves that two nodes have the same contents, before one of them is used for the other. It reads both completely. */
  | { readonly do: 'compare'; readonly comparison: Comparison }
  /** Ends a comparison in progress, and closes the nodes that it has opened. */
  | { readonly do: 'end-comparison'; readonly job: string }
  /** Removes the file if the named step made that very file; empties it if it was taken over. */
  | { readonly do: 'remove-file'; readonly path: string; readonly madeBy: string }
  /**
   * Puts a written file or device on stable storage. One that this service may not open is left to QEMU. `files` must
   * be at their names.
   */
  | { readonly do: 'sync-file'; readonly path: string; readonly files: readonly KnownFile[] }
  /** Deletes an image that a commit has emptied, if it is still that very file and no VM has it open. */
  | {
      readonly do: 'delete-image';
      readonly image: KnownFile;
      /** The header is read back once more. Undefined if the guest itself has left the image. */
      readonly letGo?: LetGo;
      /** Whether the caller accepted that internal snapshots are deleted with it. */
      readonly losesSnapshots?: true;
    };

/** The header, and the job, that drop an image from the chain. */
export interface LetGo {
  readonly job: string;
  readonly handover: Handover;
  /** As in Accepted. */
  readonly named: readonly KnownFile[];
}

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

export interface Step {
  /** Unique in its plan, in words: `add-destination-file`. */
  readonly name: string;
  readonly run: Action;
  /** Undoes the step; harmless if the step never happened. */
  readonly undo?: Action;
  /** Why the guest is paused for this step: QEMU can crash at it while the guest is busy. */
  readonly holdsGuest?: true;
}

export type Plan = readonly Step[];

/** A file that is known by more than its name: a file system gives the inode of a removed file to the next one at once. */
export interface KnownFile {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly birthTimeNs: string;
}

/** The file that create-file made: remove-file recognises it by this, not by its name. */
export interface MadeFile extends KnownFile {
  /** False if an empty file existed and was taken over; it must not be removed. */
  readonly created: boolean;
}

/** An image whose data a commit moves. */
export interface CommittedFile extends KnownFile {
  /** As in SafeFile. */
  readonly sharedStorage?: string;
}
