/** The recorded cases of blockRebase, and every intended difference of Rebase from libvirt. */
import { RebaseFlag } from '../../../generated/blockjob/v1/block_job_service.ts';
import {
  type Accepted,
  type Difference,
  type Expected,
  type Reason,
  type RecordedError,
  type RecordedImage,
  reasonsFor,
  recorded,
  SCALE,
  type StartedAndFailed,
} from './golden.ts';
import type { DestinationKind, SourceKind } from './golden-images.ts';

export interface RebaseCase {
  readonly case: number;
  /** The sum of libvirt's bits, which are ours too. */
  readonly flags: number;
  readonly source: Exclude<SourceKind, 'qcow2-flat'>;
  /** The file at /vm/dst/copy.img, or the block device; null: nothing. */
  readonly dest: DestinationKind | null;
  readonly base: string | null;
  readonly bandwidth: number;
  readonly outcome: 'error' | 'aborted' | 'pivoted' | 'completed' | 'job-failed';
  readonly error?: RecordedError;
  readonly image?: RecordedImage;
  readonly identical?: boolean;
  readonly chain?: readonly string[];
}

const BITS = {
  SHALLOW: RebaseFlag.REBASE_FLAG_SHALLOW,
  REUSE_EXT: RebaseFlag.REBASE_FLAG_REUSE_EXT,
  COPY_RAW: RebaseFlag.REBASE_FLAG_COPY_RAW,
  COPY: RebaseFlag.REBASE_FLAG_COPY,
  RELATIVE: RebaseFlag.REBASE_FLAG_RELATIVE,
  COPY_DEV: RebaseFlag.REBASE_FLAG_COPY_DEV,
  BANDWIDTH_BYTES: RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES,
} as const;
type Flag = keyof typeof BITS;

/** The flags as in the repeated field. */
export function flagsOf({ flags }: RebaseCase): RebaseFlag[] {
  return Object.values(BITS).filter((bit) => (flags & bit) !== 0);
}

export function titleOf(one: RebaseCase): string {
  const names = Object.entries(BITS).flatMap(([name, bit]) => ((one.flags & bit) === 0 ? [] : [name]));
  const to = one.base === DESTINATION ? one.dest : JSON.stringify(one.base);
  return `#${one.case} ${names.join('|') || '0'}, ${one.source} to ${to}: libvirt ${one.outcome}`;
}

export const CASES = recorded('rebase.jsonl').map((line): RebaseCase => JSON.parse(line));

export const DESTINATION = '/vm/dst/copy.img';

// ---- the actions of libvirt -----------------------------------------------------------------------------

export function libvirts(one: RebaseCase): Expected | StartedAndFailed {
  const { outcome, error, image, identical, chain } = one;
  if (outcome === 'job-failed') return { verdict: 'started and failed' };
  if (error !== undefined) return { verdict: 'refused', reasons: reasonsFor(error) };
  if (image === undefined || identical === undefined || chain === undefined || outcome === 'error')
    throw new Error(`case ${one.case} says too little`);
  return {
    verdict: 'accepted',
    end: { aborted: 'abort', pivoted: 'pivot', completed: 'completes' }[outcome] as Accepted['end'],
    image: {
      format: image.format === 'raw' ? 'raw' : 'qcow2',
      virtualSize: image.virtual_size / SCALE,
      backing: image.backing ?? undefined,
      backingFormat: image.backing_format ?? undefined,
    },
    identical,
    chain,
  };
}

// ---- the intended differences ---------------------------------------------------------------------------

const SIZE = (64 << 20) / SCALE;
const CHAINS = {
  'qcow2-chain': ['/vm/src/snap2.qcow2', '/vm/src/snap1.qcow2', '/vm/src/base.qcow2'],
  'qcow2-chain-rel': ['/vm/src/snap2.qcow2', '/vm/src/snap1.qcow2', '/vm/src/base.qcow2'],
  raw: ['/vm/src/disk.raw'],
} as const;

function has({ flags }: RebaseCase, ...names: readonly Flag[]): boolean {
  return names.every((name) => (flags & BITS[name]) !== 0);
}

function isDevice({ base }: RebaseCase): boolean {
  return base?.startsWith('/dev/') === true;
}

/** Whether a copy makes a raw destination. */
function makesRaw(one: RebaseCase): boolean {
  return has(one, 'COPY_RAW') || one.source === 'raw';
}

function refused(...reasons: readonly Reason[]): Expected {
  return { verdict: 'refused', reasons };
}

/** A complete copy, which is then aborted. */
function copied(one: RebaseCase, image: { format: 'raw' | 'qcow2'; backing?: string }): Accepted {
  return {
    verdict: 'accepted',
    end: 'abort',
    image: {
      format: image.format,
      virtualSize: SIZE,
      backing: image.backing,
      backingFormat: image.backing === undefined ? undefined : 'qcow2',
    },
    identical: true,
    chain: CHAINS[one.source],
  };
}

/**
 * A copy into a raw device that was full of zeroes: only the active image, if the data below it should be there
 * already.
 */
function onto(one: RebaseCase): Expected {
  const isWhole = !has(one, 'SHALLOW') || one.source === 'raw';
  return { ...copied(one, { format: 'raw' }), identical: isWhole };
}

/** Not refused by the arguments alone. */
function isCopy(one: RebaseCase): boolean {
  return has(one, 'COPY') && one.base?.startsWith('/') === true;
}

/** With RELATIVE, and no argument excludes a name to write. */
function mayBeRelative(one: RebaseCase): boolean {
  return has(one, 'COPY', 'RELATIVE', 'SHALLOW') && !has(one, 'REUSE_EXT') && !has(one, 'COPY_RAW');
}

/** In this order: the first difference that fits a case gives the expected result. */
export const DIFFERENCES: readonly Difference<RebaseCase>[] = [
  {
    name: 'an empty base means no base',
    why: 'RebaseRequest.base: a string of protobuf cannot be NULL, so empty means what NULL does',
    when: (one) => !has(one, 'COPY') && one.base === '' && one.error?.message.includes('could not find image') === true,
    ours: (one) =>
      has(one, 'RELATIVE')
        ? refused('BASE_REQUIRED')
        : {
            ...copied(one, { format: 'qcow2' }),
            end: 'completes',
            chain: CHAINS[one.source].slice(0, 1),
          },
  },
  {
    name: 'a relative backing name is written',
    why: 'REBASE_FLAG_RELATIVE: libvirt refuses every copy with it, "not supported yet"',
    when: (one) =>
      mayBeRelative(one) &&
      one.source !== 'raw' &&
      one.base === DESTINATION &&
      !has(one, 'COPY_DEV') &&
      (one.dest === 'absent' || one.dest === 'zero-length-file'),
    ours: (one) => copied(one, { format: 'qcow2', backing: '../src/snap1.qcow2' }),
  },
  {
    name: 'with a relative backing name, the destination is checked as without it',
    why: 'REBASE_FLAG_RELATIVE: it is not what is wrong',
    when: (one) => mayBeRelative(one) && one.source !== 'raw' && isCopy(one),
    ours: ({ base, dest }) => {
      if (base === DESTINATION && dest === 'absent') return refused('DESTINATION_MISSING');
      if (base === DESTINATION && dest === 'zero-length-file') return refused('NOT_A_BLOCK_DEVICE');
      return base === DESTINATION && dest === 'directory' ? refused('FIELD_INVALID') : refused('DESTINATION_EXISTS');
    },
  },
  {
    name: 'errors of the arguments alone are reported before a disk is looked at',
    why: 'the service: arguments that are wrong are reported all at once; for RELATIVE the disk must be known',
    when: (one) => mayBeRelative(one) && one.base !== null && !isCopy(one),
    ours: ({ base }) => refused(base === '' ? 'BASE_REQUIRED' : 'PATH_NOT_ABSOLUTE'),
  },
  {
    name: 'a folder cannot be a destination, whatever the flags',
    why: 'libvirt says that it exists, or that its format is unknown, or that it is not a block device',
    when: (one) =>
      isCopy(one) &&
      one.dest === 'directory' &&
      one.base === DESTINATION &&
      [1, 8, 67].includes(one.error?.code ?? 0) &&
      !/shallow copy/.test(one.error?.message ?? ''),
    ours: () => refused('FIELD_INVALID'),
  },
  {
    name: 'a block device is not formatted unasked',
    why: 'REBASE_FLAG_COPY_DEV: without REUSE_EXT it may hold data, and only raw is written to it',
    when: (one) => isCopy(one) && isDevice(one) && !has(one, 'RELATIVE') && !has(one, 'REUSE_EXT') && !makesRaw(one),
    ours: () => refused('DESTINATION_EXISTS'),
  },
  {
    name: 'a block device is probed, and zeroes are not a format',
    why: 'ImageFormat: an image is never taken for raw because its header says nothing',
    when: (one) =>
      isCopy(one) && isDevice(one) && !has(one, 'RELATIVE') && has(one, 'REUSE_EXT') && !has(one, 'COPY_RAW'),
    ours: () => refused('FORMAT_UNKNOWN'),
  },
  {
    name: 'a block device is one without COPY_DEV too',
    why: 'design: a path that is a block device is used as one; libvirt opens it as a file, which fails',
    when: (one) =>
      isCopy(one) &&
      isDevice(one) &&
      !has(one, 'RELATIVE') &&
      !has(one, 'COPY_DEV') &&
      one.error !== undefined &&
      [1, 9].includes(one.error.code),
    ours: (one) => (one.dest === 'blockdev-80M' ? refused('SIZE_MISMATCH') : onto(one)),
  },
  {
    name: 'an image that cannot be probed is not taken for raw',
    why: 'ImageFormat, and the seed: a guest can make a raw image look like any other; COPY_RAW says that it is raw',
    when: (one) =>
      isCopy(one) &&
      !has(one, 'RELATIVE') &&
      has(one, 'REUSE_EXT') &&
      !has(one, 'COPY_RAW') &&
      one.outcome !== 'error' &&
      ['zero-length-file', 'raw-zero', 'raw-garbage', 'raw-smaller'].includes(one.dest ?? ''),
    ours: () => refused('FORMAT_UNKNOWN'),
  },
  {
    name: 'a full copy keeps the backing file of the image that is reused',
    why: 'as its header says; libvirt leaves it out until the next start, and QEMU 11.1 makes such a copy wrong',
    when: (one) => one.dest === 'qcow2-relbacking' && one.source === 'raw' && one.outcome === 'pivoted',
    ours: (one) => ({ ...(libvirts(one) as Accepted), chain: [DESTINATION, '/vm/dst/under.raw'] }),
    whereZeroesAreLeftOut: true,
  },
  {
    name: 'sizes are compared before the start',
    why: 'SIZE_MISMATCH: libvirt starts the job, which fails',
    when: (one) => one.outcome === 'job-failed',
    ours: () => refused('SIZE_MISMATCH'),
  },
];

/** The expected answer of the service, and the difference that explains it; `zeroesLeftOut` by the QEMU at hand. */
export function expectedOf(
  one: RebaseCase,
  zeroesLeftOut = true,
): { readonly expected: Expected; readonly difference?: string } {
  const difference = DIFFERENCES.find(
    ({ when, whereZeroesAreLeftOut }) => when(one) && (zeroesLeftOut || whereZeroesAreLeftOut === undefined),
  );
  if (difference !== undefined) return { expected: difference.ours(one), difference: difference.name };
  const expected = libvirts(one);
  if (expected.verdict === 'started and failed') throw new Error(`case ${one.case} cannot be followed`);
  return { expected };
}
