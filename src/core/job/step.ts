/**
 * A plan is data: what to do, step by step, and how to take each step back. It is journaled with the job, so that
 * recovery depends on what was planned then, not on what today's code would plan.
 */

import type { QmpCommand } from '../qemu/commands.ts';
import type { Comparison } from './comparison.ts';
import type { Handover } from './handover.ts';

/** One thing to do. Each may be repeated: done twice it is as if done once. */
export type Action =
  /** A command that has happened when it has been answered. */
  | { readonly do: 'qmp'; readonly command: QmpCommand }
  /** A command that starts a QEMU job: has happened when that job has concluded without error and is dismissed. */
  | { readonly do: 'qmp-job'; readonly command: QmpCommand; readonly qemuJob: string }
  /** Ends and dismisses a QEMU job, whatever it is doing; a job that is not there is well ended. */
  | { readonly do: 'end-qmp-job'; readonly qemuJob: string }
  /** Makes a file that must not be there (O_EXCL), or takes over one that must be, with zero length; gives it a size. */
  | {
      readonly do: 'create-file';
      readonly path: string;
      /** It was there when the plan was made: an empty file counts as absent, but is not ours. */
      readonly takeOver: boolean;
      readonly sizeBytes: number;
      readonly owner: FileOwner | undefined;
      /** Undefined, as in older journals: 0600. */
      readonly mode?: number;
    }
  /**
   * Proves that the node has open what this service sees at that path, before anything is written through it: in another
   * mount namespace the same path is another file. Where /proc does not tell, QEMU's own word for it has to do.
   */
  | {
      readonly do: 'prove-file';
      readonly node: string;
      readonly path: string;
      readonly isNew: boolean;
      /** What was looked at when the plan was made. Undefined: what was made since, or an older journal. */
      readonly file?: KnownFile;
      /** An image below the destination: to be read, and no copy. */
      readonly isBacking?: true;
    }
  /** Proves that two nodes show the same, before one of them is taken for the other. Takes as long as to read both. */
  | { readonly do: 'compare'; readonly comparison: Comparison }
  /** Ends a comparison that is under way, and closes what it has opened. */
  | { readonly do: 'end-comparison'; readonly job: string }
  /** Removes the file if that very file was made by the step named; else, if it was taken over, empties it. */
  | { readonly do: 'remove-file'; readonly path: string; readonly madeBy: string }
  /**
   * Puts a file or a device that was written on stable storage. One that this service may not open is left to QEMU.
   * `files`: have to be at their names.
   */
  | { readonly do: 'sync-file'; readonly path: string; readonly files: readonly KnownFile[] }
  /** Deletes an image that a commit has emptied, if it is that very file still and no VM has it open. */
  | {
      readonly do: 'delete-image';
      readonly image: KnownFile;
      /** That header is read back once more. Undefined: the guest itself has left the image. */
      readonly letGo?: LetGo;
      /** That internal snapshots go with it was accepted. */
      readonly losesSnapshots?: true;
    };

/** By which header, and by which job's, an image is let go. */
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
  /** Takes the step back; harmless if the step never happened. */
  readonly undo?: Action;
  /** QEMU can crash at this step while the guest is busy: the guest is paused for it. */
  readonly holdsGuest?: true;
}

export type Plan = readonly Step[];

/** A file that is known by more than its name: a file system gives a removed file's inode to the next one at once. */
export interface KnownFile {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly birthTimeNs: string;
}

/** What create-file made: by this, not by its name, remove-file knows the file as ours. */
export interface MadeFile extends KnownFile {
  /** False: a file of zero length was there and was taken over; it is not ours to remove. */
  readonly created: boolean;
}
