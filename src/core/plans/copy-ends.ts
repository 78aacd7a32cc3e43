/** The source and destination of a copy, with the facts that its plan needs. */

import type { Encryption, NbdExport } from '../destination.ts';
import type { Comparison } from '../job/comparison.ts';
import type { FileOwner, KnownFile } from '../job/step.ts';
import type { ImageFormat } from '../job-options.ts';
import type { BackingStorage } from '../qemu/commands.ts';

export interface CopySource {
  readonly node: string;
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
  /** The host's page cache is bypassed (cache.direct). */
  readonly cacheDirect: boolean;
  readonly detectZeroes: string;
  /** Whether to copy the active image only: then it has a backing image. */
  readonly topOnly: boolean;
}

/** How QEMU reaches the bytes of the destination. */
export type Storage =
  | {
      readonly driver: 'file' | 'host_device';
      readonly filename: string;
      /** An existing destination that is used as it is. */
      readonly file?: KnownFile;
    }
  | (NbdExport & {
      readonly driver: 'nbd';
      /** Whether QEMU can limit how long it waits for the server when it opens the export. */
      readonly opensInTime: boolean;
    });

/** An image that is below the destination, or will be. */
export type Backing =
  /** A node that is already open: an image of the source's chain. */
  | { readonly is: 'NODE'; readonly node: string }
  /** An image of the destination's own chain, to be opened. */
  | {
      readonly is: 'IMAGE';
      readonly path: string;
      readonly driver: string;
      readonly storage: BackingStorage;
      /** The file that was found: no other one is opened. */
      readonly file?: KnownFile;
      readonly below: Backing | undefined;
    };

export interface CopyDestination {
  readonly storage: Storage;
  readonly format: ImageFormat;
  readonly encryption?: Encryption | undefined;
  /** The changes to it; undefined if it is used as it is. */
  readonly make?:
    | undefined
    /** A new file, or an existing empty one. */
    | {
        readonly new: 'FILE';
        readonly takeOver: boolean;
        /** Undefined for the user of this service. */
        readonly owner: FileOwner | undefined;
        readonly mode: number;
      }
    /** A block device that gets a header. */
    | { readonly new: 'HEADER' };
  readonly backing?: Backing | undefined;
  /** The backing image in a new header. */
  readonly backingName?: { readonly file: string; readonly format: string } | undefined;
  /** The contents that it must have before the copy begins. */
  readonly verify?: Comparison['backing'];
}
