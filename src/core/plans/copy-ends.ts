/** The two ends of a copy, as its plan needs to know them. */

import type { Encryption, NbdServer } from '../destination.ts';
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
  /** Copy the active image only: there is something below it. */
  readonly topOnly: boolean;
}

/** How QEMU gets at the destination's bytes. */
export type Storage =
  | {
      readonly driver: 'file' | 'host_device';
      readonly filename: string;
      /** What is there, and is used as it is. */
      readonly file?: KnownFile;
    }
  | {
      readonly driver: 'nbd';
      readonly server: NbdServer;
      readonly exportName: string;
      readonly tlsCredentialsId: string;
      readonly tlsHostname: string;
      /** QEMU takes a limit for how long it waits for the server when it opens it. */
      readonly opensInTime: boolean;
    };

/** An image that is below the destination, or is to be. */
export type Backing =
  /** A node that is open already: an image of the source's chain. */
  | { readonly is: 'NODE'; readonly node: string }
  /** An image of the destination's own chain: to be opened. */
  | {
      readonly is: 'IMAGE';
      readonly path: string;
      readonly driver: string;
      readonly storage: BackingStorage;
      /** What was found there: no other is opened. */
      readonly file?: KnownFile;
      readonly below: Backing | undefined;
    };

export interface CopyDestination {
  readonly storage: Storage;
  readonly format: ImageFormat;
  readonly encryption?: Encryption | undefined;
  /** What is to be made of it; undefined: it is used as it is. */
  readonly make?:
    | undefined
    /** A new file, or one of zero length that is there already. */
    | {
        readonly new: 'FILE';
        readonly takeOver: boolean;
        /** Undefined: nobody else than we. */
        readonly owner: FileOwner | undefined;
        readonly mode: number;
      }
    /** A block device gets a header. */
    | { readonly new: 'HEADER' };
  readonly backing?: Backing | undefined;
  /** What a new header says of the backing image. */
  readonly backingName?: { readonly file: string; readonly format: string } | undefined;
  /** What it has to show before the copy begins. */
  readonly verify?: Comparison['backing'];
}
