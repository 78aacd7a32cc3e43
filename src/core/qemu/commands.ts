/** The QMP commands that plans and jobs may use: the whole vocabulary on one screen, for audits. */

type NodeCache = {
  readonly direct: boolean;
  readonly 'no-flush': boolean;
};

/** The protocol node of an image that is only read. */
export type BackingStorage = 'file' | 'host_device';

type Writable = {
  readonly 'node-name': string;
  readonly discard: 'unmap';
  readonly cache: NodeCache;
};

type ReadOnly = {
  readonly 'node-name': string;
  readonly 'read-only': true;
  readonly 'auto-read-only': true;
  readonly cache: NodeCache;
};

export type NbdOptions = {
  readonly driver: 'nbd';
  readonly server:
    | { readonly type: 'inet'; readonly host: string; readonly port: string }
    | { readonly type: 'unix'; readonly path: string };
  readonly export: string;
  readonly 'tls-creds'?: string;
  readonly 'tls-hostname'?: string;
  /** In seconds. */
  readonly 'reconnect-delay': number;
  /** In seconds, since QEMU 7.0. Without it QEMU waits for ever for a server that does not answer. */
  readonly 'open-timeout'?: number;
};

/** The id of an object in QEMU: the key never passes through this service. */
type LuksKey = { readonly format: 'luks'; readonly 'key-secret': string };

/** The name of a node, or none: never the backing file in the image's header (a guest may have written that). */
type BackingNode = { readonly backing: string | null };

export type BlockdevOptions =
  | (Writable & { readonly driver: BackingStorage; readonly filename: string })
  | (Writable & NbdOptions)
  | (Writable &
      BackingNode & {
        readonly driver: 'qcow2';
        readonly file: string;
        readonly 'detect-zeroes': string;
        readonly encrypt?: LuksKey;
      })
  | (Writable & { readonly driver: 'raw'; readonly file: string; readonly 'detect-zeroes': string })
  | (ReadOnly & { readonly driver: BackingStorage; readonly filename: string })
  | (ReadOnly & BackingNode & { readonly driver: 'qcow2'; readonly file: string })
  /** A part of another node. */
  | {
      readonly driver: 'raw';
      readonly 'node-name': string;
      readonly file: string;
      readonly offset: number;
      readonly size: number;
      readonly 'read-only': true;
    }
  /** Reads as zeroes and discards all writes. */
  | {
      readonly driver: 'null-co';
      readonly 'node-name': string;
      readonly size: number;
      readonly 'read-zeroes'?: true;
      readonly 'read-only'?: true;
    }
  /** Reads succeed only if its children are equal. */
  | {
      readonly driver: 'quorum';
      readonly 'node-name': string;
      readonly children: readonly [string, string];
      readonly 'vote-threshold': 2;
      readonly 'read-only': true;
    }
  /** raw, and the formats of the allow-list in core/image-header. */
  | (ReadOnly & { readonly driver: string; readonly file: string });

// A type alias, because the compiler treats only those as plain objects: QMP takes any of them.
export type MirrorArguments = {
  readonly 'job-id': string;
  readonly device: string;
  readonly target: string;
  readonly sync: 'full' | 'top';
  readonly speed: number;
  readonly granularity?: number;
  readonly 'buf-size': number;
  readonly 'on-source-error': 'report' | 'stop';
  readonly 'on-target-error': 'report' | 'enospc' | 'stop';
  readonly 'filter-node-name': string;
  readonly 'copy-mode': 'background' | 'write-blocking';
  readonly 'auto-finalize': true;
  readonly 'auto-dismiss': false;
};

type ChainJob = {
  readonly 'job-id': string;
  readonly device: string;
  readonly 'base-node'?: string;
  /** The backing file to write into the header of the image above the base: a plain path, never QEMU's own json:{} text. */
  readonly 'backing-file'?: string;
  readonly speed: number;
  readonly 'on-error': 'report';
};

type BitmapAction =
  | {
      readonly type: 'block-dirty-bitmap-add';
      readonly data: {
        readonly node: string;
        readonly name: string;
        readonly granularity: number;
        readonly persistent: true;
        readonly disabled: boolean;
      };
    }
  | {
      readonly type: 'block-dirty-bitmap-merge';
      readonly data: {
        readonly node: string;
        readonly target: string;
        readonly bitmaps: readonly [{ readonly node: string; readonly name: string }];
      };
    };

export type QmpCommand =
  | { readonly execute: 'blockdev-add'; readonly arguments: BlockdevOptions }
  | { readonly execute: 'blockdev-del'; readonly arguments: { readonly 'node-name': string } }
  /** QEMU has to refuse it: see core/qemu/flush. */
  | {
      readonly execute: 'blockdev-reopen';
      readonly arguments: {
        readonly options: readonly [
          {
            readonly driver: 'null-co';
            readonly 'node-name': string;
            readonly 'detect-zeroes': 'unmap';
            readonly discard: 'ignore';
          },
        ];
      };
    }
  | {
      readonly execute: 'x-blockdev-reopen';
      readonly arguments: { readonly driver: 'null-co'; readonly 'node-name': string };
    }
  | {
      readonly execute: 'blockdev-create';
      readonly arguments: {
        readonly 'job-id': string;
        readonly options: {
          readonly driver: 'qcow2';
          readonly file: string;
          readonly size: number;
          readonly 'cluster-size'?: number;
          readonly 'extended-l2'?: boolean;
          readonly 'backing-file'?: string;
          readonly 'backing-fmt'?: string;
          /** In milliseconds. */
          readonly encrypt?: LuksKey & { readonly 'iter-time': number };
        };
      };
    }
  | { readonly execute: 'blockdev-mirror'; readonly arguments: MirrorArguments }
  | {
      readonly execute: 'block-stream';
      readonly arguments: ChainJob & { readonly 'auto-finalize': false; readonly 'auto-dismiss': true };
    }
  | {
      readonly execute: 'block-commit';
      readonly arguments: ChainJob & {
        readonly 'top-node': string;
        readonly 'filter-node-name': string;
        readonly 'auto-finalize': boolean;
        readonly 'auto-dismiss': false;
      };
    }
  /** All actions or none. */
  | { readonly execute: 'transaction'; readonly arguments: { readonly actions: readonly BitmapAction[] } }
  /** Out of band: breaks a network connection that hangs, even if the monitor hangs. */
  | {
      readonly execute: 'yank';
      readonly arguments: {
        readonly instances: readonly [{ readonly type: 'block-node'; readonly 'node-name': string }];
      };
    }
  | {
      readonly execute: 'job-complete' | 'job-cancel' | 'job-pause' | 'job-resume' | 'job-finalize' | 'job-dismiss';
      readonly arguments: { readonly id: string };
    }
  /** An event comes with the first write behind this byte of the node. QEMU takes one threshold a node, for one event. */
  | {
      readonly execute: 'block-set-write-threshold';
      readonly arguments: { readonly 'node-name': string; readonly 'write-threshold': number };
    }
  /** By the device. The limits of a group are those of all its disks; without a limit, the disk leaves its group. */
  | {
      readonly execute: 'block_set_io_throttle';
      readonly arguments: Readonly<Record<'bps' | 'bps_rd' | 'iops' | 'iops_rd' | 'iops_wr', 0>> & {
        readonly id: string;
        readonly bps_wr: number;
        readonly group?: string;
      };
    }
  | {
      readonly execute: 'block-job-set-speed';
      readonly arguments: { readonly device: string; readonly speed: number };
    }
  | {
      readonly execute: 'block-job-change';
      readonly arguments: { readonly id: string; readonly type: 'mirror'; readonly 'copy-mode': 'write-blocking' };
    }
  /** After READY, without force: ends the mirror and leaves a complete copy. */
  | {
      readonly execute: 'block-job-cancel';
      readonly arguments: { readonly device: string; readonly force: false };
    }
  | {
      readonly execute: 'qom-get';
      readonly arguments: { readonly path: string; readonly property: 'type' | 'share-rw' };
    }
  | { readonly execute: 'qom-list'; readonly arguments: { readonly path: '/objects' } }
  | { readonly execute: 'query-block' }
  | { readonly execute: 'query-block-jobs' }
  | { readonly execute: 'query-blockstats'; readonly arguments?: { readonly 'query-nodes': true } }
  | { readonly execute: 'query-chardev' }
  | { readonly execute: 'query-cpus-fast' }
  | { readonly execute: 'query-fdsets' }
  | { readonly execute: 'query-jobs' }
  | { readonly execute: 'query-migrate' }
  | { readonly execute: 'query-name' }
  | { readonly execute: 'query-named-block-nodes'; readonly arguments: { readonly flat: true } }
  | { readonly execute: 'query-qmp-schema' }
  | { readonly execute: 'query-status' }
  | { readonly execute: 'query-uuid' }
  | { readonly execute: 'x-debug-query-block-graph' };

/** Stops and continues a guest's CPUs. It is not a QmpCommand: only the hold of the VM may send it (agent/guest-hold). */
export type GuestCommand = { readonly execute: 'stop' } | { readonly execute: 'cont' };
