/** The QMP commands that plans and jobs may use: the whole vocabulary, so that it can be audited on one screen. */

type NodeCache = {
  readonly direct: boolean;
  readonly 'no-flush': boolean;
};

export type BlockdevOptions =
  | {
      readonly driver: 'file';
      readonly 'node-name': string;
      readonly filename: string;
      readonly discard: 'unmap';
      readonly cache: NodeCache;
    }
  | {
      readonly driver: 'qcow2';
      readonly 'node-name': string;
      readonly file: string;
      /** A node's name, or none: never what the image's header says (a guest may have written that). */
      readonly backing: string | null;
      readonly discard: 'unmap';
      readonly cache: NodeCache;
      readonly 'detect-zeroes': string;
    }
  | {
      readonly driver: 'raw';
      readonly 'node-name': string;
      readonly file: string;
      readonly discard: 'unmap';
      readonly cache: NodeCache;
      readonly 'detect-zeroes': string;
    };

// A type alias, as only those are plain objects to the compiler: QMP takes any of them.
export type MirrorArguments = {
  readonly 'job-id': string;
  readonly device: string;
  readonly target: string;
  readonly sync: 'full' | 'top';
  readonly speed: number;
  readonly granularity?: number;
  readonly 'buf-size': number;
  readonly 'on-source-error': 'report';
  readonly 'on-target-error': 'report' | 'enospc';
  readonly 'filter-node-name': string;
  readonly 'copy-mode': 'background';
  readonly 'auto-finalize': true;
  readonly 'auto-dismiss': false;
};

export type QmpCommand =
  | { readonly execute: 'blockdev-add'; readonly arguments: BlockdevOptions }
  | { readonly execute: 'blockdev-del'; readonly arguments: { readonly 'node-name': string } }
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
        };
      };
    }
  | { readonly execute: 'blockdev-mirror'; readonly arguments: MirrorArguments }
  | { readonly execute: 'job-complete'; readonly arguments: { readonly id: string } }
  | { readonly execute: 'job-cancel'; readonly arguments: { readonly id: string } }
  | { readonly execute: 'job-pause'; readonly arguments: { readonly id: string } }
  | { readonly execute: 'job-resume'; readonly arguments: { readonly id: string } }
  | {
      readonly execute: 'block-job-set-speed';
      readonly arguments: { readonly device: string; readonly speed: number };
    }
  | { readonly execute: 'job-dismiss'; readonly arguments: { readonly id: string } }
  /** After READY, unforced: ends the mirror and leaves a complete copy. */
  | {
      readonly execute: 'block-job-cancel';
      readonly arguments: { readonly device: string; readonly force: false };
    }
  | { readonly execute: 'stop' }
  | { readonly execute: 'cont' }
  | { readonly execute: 'qom-get'; readonly arguments: { readonly path: string; readonly property: 'type' } }
  | { readonly execute: 'query-block' }
  | { readonly execute: 'query-block-jobs' }
  | { readonly execute: 'query-jobs' }
  | { readonly execute: 'query-name' }
  | { readonly execute: 'query-named-block-nodes'; readonly arguments: { readonly flat: true } }
  | { readonly execute: 'query-status' }
  | { readonly execute: 'query-uuid' }
  | { readonly execute: 'x-debug-query-block-graph' };
