/** The other recorded cases, and the request for each of their steps. */
import type { CommitFlag, RebaseFlag } from '../../../generated/blockjob/v1/block_job_service.ts';
import { Operation } from '../../../generated/blockjob/v1/domain_service.ts';
import { ImageFormat, WriteMode } from '../../../generated/blockjob/v1/job.ts';
import { type RecordedError, type RecordedImage, recorded } from './golden.ts';
import type { DestinationKind, SourceKind } from './golden-images.ts';
import type { Layer } from './golden-world.ts';

export interface OtherCase {
  readonly case: number;
  readonly group: string;
  readonly name: string;
  readonly source: SourceKind;
  readonly dest: DestinationKind | null;
  readonly domain: 'transient' | 'persistent';
  readonly steps: readonly Step[];
  readonly final: Final;
}

export type Step = Call | Wait | Chain | StillThere;

export interface Call {
  readonly call: string;
  /** Numbers beyond 2^53 are text. */
  readonly args: readonly unknown[];
  readonly error?: RecordedError;
  /** The result of blockJobInfo; null: there was no job. */
  readonly info?: { readonly type: number; readonly bandwidth: number | string; readonly ready: boolean } | null;
  /** The answer depended on chance. */
  readonly racy?: boolean;
}

export interface Wait {
  readonly wait: 'READY' | 'COMPLETED' | 'CANCELED' | 'FAILED';
}

export interface Chain {
  readonly chain: readonly string[];
}

/** The destination before the call, which a refused call must not touch. */
export interface StillThere {
  readonly still_there: boolean;
}

/** The state at the end. */
export interface Final {
  readonly chain?: readonly string[];
  /** The destination, and whether it held what the guest saw. */
  readonly image?: RecordedImage;
  readonly identical?: boolean;
  /** Whether the source's active image is unchanged. */
  readonly source_identical?: boolean;
  /** After a commit: the former images, and the image of the guest. */
  readonly layers?: Readonly<Record<string, Layer | null>>;
  readonly active?: RecordedImage;
  readonly active_identical?: boolean;
}

export const CASES = recorded('other.jsonl').map((line): OtherCase => JSON.parse(line));

// ---- a step in our words --------------------------------------------------------------------------------

type Destination =
  | { readonly $case: 'file'; readonly value: string }
  | { readonly $case: 'blockDevice'; readonly value: string };

export type Ask =
  | {
      readonly rpc: 'rebase';
      readonly disk: string;
      readonly base: string;
      readonly bandwidth: bigint;
      readonly flags: RebaseFlag[];
    }
  | {
      readonly rpc: 'commit';
      readonly disk: string;
      readonly base: string;
      readonly top: string;
      readonly bandwidth: bigint;
      readonly flags: CommitFlag[];
    }
  | {
      readonly rpc: 'startCopy';
      readonly disk: string;
      readonly destination: Destination;
      readonly format: ImageFormat;
      readonly shallow: boolean;
      readonly reuseExternal: boolean;
      readonly writeMode: WriteMode;
      readonly bandwidth: bigint;
      readonly granularityBytes: bigint;
      readonly bufferBytes: bigint;
    }
  | { readonly rpc: 'abort'; readonly disk: string; readonly pivot: boolean; readonly async: boolean }
  | { readonly rpc: 'setSpeed'; readonly disk: string; readonly bandwidth: bigint }
  | { readonly rpc: 'getInfo'; readonly disk: string; readonly inBytes: boolean }
  | { readonly rpc: 'checkOperation'; readonly disk: string | undefined; readonly operation: Operation };

/** The reasons why a step has no counterpart: then it is left out. */
export const NO_COUNTERPART: readonly { readonly why: string; readonly when: (step: Call) => boolean }[] = [
  { why: 'its answer depended on chance', when: ({ racy }) => racy === true },
  {
    why: 'protobuf has no NULL, and no count beside an array',
    when: ({ error }) => /^(destxml|params|info|nparams) in virDomain/.test(error?.message ?? ''),
  },
  {
    why: 'parameters are fields: none is of another type, given twice or unknown',
    when: ({ call, args: [, , params] }) =>
      call === 'blockCopy' && (Array.isArray(params) || (params instanceof Object && 'speed' in params)),
  },
  {
    why: 'a destination is a message, not XML',
    when: ({ call, error }) => call === 'blockCopy' && (error?.code === 35 || error?.code === 27),
  },
  {
    why: 'a destination does not describe its chain: its headers do',
    when: ({ call, args: [, xml] }) => call === 'blockCopy' && /<backingStore/.test(String(xml)),
  },
  {
    why: 'ImageFormat has qcow2 and raw only',
    when: ({ call, args: [, xml] }) =>
      call === 'blockCopy' && /<driver type='(qed|vmdk|qcow|vpc|iso)'/.test(String(xml)),
  },
  {
    why: 'an export over the network is not compared here',
    when: ({ call, args: [, xml] }) => call === 'blockCopy' && /type='network'/.test(String(xml)),
  },
  {
    why: 'an unsigned field has no negative value',
    when: ({ call, args: [, bandwidth] }) => call === 'blockJobSetSpeed' && bandwidth === -1,
  },
  {
    why: 'CheckOperation knows nothing of what a snapshot selects',
    when: ({ error }) => error?.message.endsWith('nothing selected for snapshot') === true,
  },
];

export function whyNotAsked(step: Call): string | undefined {
  return NO_COUNTERPART.find(({ when }) => when(step))?.why;
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  saveFlags: Operation.OPERATION_SAVE,
  managedSave: Operation.OPERATION_SAVE,
  snapshotCreateXML: Operation.OPERATION_SNAPSHOT,
  revertToSnapshot: Operation.OPERATION_REVERT,
  detachDeviceFlags: Operation.OPERATION_DETACH,
  detachDeviceAlias: Operation.OPERATION_DETACH,
  blockResize: Operation.OPERATION_RESIZE,
  migrateToURI: Operation.OPERATION_MIGRATE,
};

const MIB = 1n << 20n;

export function askOf({ call, args }: Call): Ask {
  const [first, second, third, fourth, fifth] = args;
  const disk = text(first);
  switch (call) {
    case 'blockRebase':
      return {
        rpc: 'rebase',
        disk,
        base: text(second),
        bandwidth: number(third),
        flags: bitsOf(fourth) as RebaseFlag[],
      };
    case 'blockPull':
      return { rpc: 'rebase', disk, base: '', bandwidth: number(second), flags: bitsOf(third) as RebaseFlag[] };
    case 'blockCommit': {
      const flags = bitsOf(fifth) as CommitFlag[];
      return { rpc: 'commit', disk, base: text(second), top: text(third), bandwidth: number(fourth), flags };
    }
    case 'blockCopy':
      return { rpc: 'startCopy', disk, ...destinationOf(text(second)), ...copyOptions(third, bitsOf(fourth)) };
    case 'blockJobAbort':
      return { rpc: 'abort', disk, pivot: bitsOf(second).includes(2), async: bitsOf(second).includes(1) };
    case 'blockJobSetSpeed': {
      const unit = bitsOf(third).includes(1) ? 1n : MIB;
      return { rpc: 'setSpeed', disk, bandwidth: number(second, unit) };
    }
    case 'blockJobInfo':
      return { rpc: 'getInfo', disk, inBytes: bitsOf(args.at(-1)).includes(1) };
    default: {
      const operation = OPERATIONS[call];
      if (operation === undefined) throw new Error(`${call} is not known`);
      const ofDisk = operation === Operation.OPERATION_DETACH || operation === Operation.OPERATION_RESIZE;
      return { rpc: 'checkOperation', disk: ofDisk ? 'vda' : undefined, operation };
    }
  }
}

function destinationOf(xml: string): { readonly destination: Destination; readonly format: ImageFormat } {
  const value = /<source (?:file|dev)='([^']*)'/.exec(xml)?.[1] ?? '';
  const format = /<driver type='(\w+)'/.exec(xml)?.[1];
  const formats: Readonly<Record<string, ImageFormat>> = {
    raw: ImageFormat.IMAGE_FORMAT_RAW,
    qcow2: ImageFormat.IMAGE_FORMAT_QCOW2,
  };
  return {
    destination: { $case: xml.startsWith("<disk type='block'") ? 'blockDevice' : 'file', value },
    format: formats[format ?? ''] ?? ImageFormat.IMAGE_FORMAT_UNSPECIFIED,
  };
}

/** TRANSIENT_JOB (4) has no counterpart: no job of ours requires a domain without a stored configuration. */
function copyOptions(params: unknown, flags: readonly number[]) {
  const given = new Map(Object.entries(params instanceof Object ? params : {}));
  return {
    shallow: flags.includes(1),
    reuseExternal: flags.includes(2),
    writeMode: flags.includes(8) ? WriteMode.WRITE_MODE_BLOCKING : WriteMode.WRITE_MODE_UNSPECIFIED,
    bandwidth: number(given.get('bandwidth') ?? 0),
    granularityBytes: number(given.get('granularity') ?? 0),
    bufferBytes: number(given.get('buf-size') ?? 0),
  };
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/**
 * libvirt's numbers have no sign, and the contract's do: a number that is too large for these is negative in the same
 * bits.
 */
function number(value: unknown, unit = 1n): bigint {
  return BigInt.asIntN(64, BigInt(typeof value === 'number' || typeof value === 'string' ? value : 0) * unit);
}

function bitsOf(flags: unknown): number[] {
  const sum = typeof flags === 'number' ? flags : 0;
  return [1, 2, 4, 8, 16, 32, 64].filter((bit) => (sum & bit) !== 0);
}

export function isStart({ call }: Call): boolean {
  return ['blockRebase', 'blockPull', 'blockCommit', 'blockCopy'].includes(call);
}

export function titleOf(one: OtherCase): string {
  return `#${one.case} ${one.group}: ${one.name} (${one.source}${one.dest === null ? '' : ` to ${one.dest}`})`;
}
