/**
 * The behaviour of libvirt 9.0 with QEMU 7.2, case by case (test/golden), and its translation: its errors into our
 * reasons, its outcomes into the expected ones.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import type { ErrorReason } from '../../../generated/blockjob/v1/error_reason.ts';
import { BadRequest } from '../../../generated/google/rpc/error_details.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import { type ImageFormat, run } from '../real-qemu/qemu.ts';
import { refusalOf } from '../service/caller.ts';

type ReasonOf<Name> = Name extends `ERROR_REASON_${infer Rest}` ? Rest : never;
export type Reason = ReasonOf<keyof typeof ErrorReason>;

/** The recorded disks had 64 MiB; here all is an eighth of that, for speed. */
export const SCALE = 8;

export interface RecordedError {
  readonly code: number;
  readonly message: string;
}

export interface RecordedImage {
  readonly format: string;
  readonly virtual_size: number;
  readonly backing: string | null;
  readonly backing_format: string | null;
}

/** The cases of one file of test/golden: a line of JSON each. */
export function recorded(name: string): readonly string[] {
  const text = readFileSync(join(import.meta.dirname, '../../golden', name), 'utf8');
  return text.trimEnd().split('\n');
}

// ---- the expected results -------------------------------------------------------------------------------

/** An image as its header and its size describe it; the backing file's name as in the record, under /vm. */
export interface ExpectedImage {
  readonly format: ImageFormat;
  readonly virtualSize: number;
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
}

export interface Refused {
  readonly verdict: 'refused';
  /** At least one of these must be among the reported reasons. */
  readonly reasons: readonly Reason[];
}

export interface Accepted {
  readonly verdict: 'accepted';
  readonly end: 'abort' | 'pivot' | 'completes';
  /** The destination; of a job without one, the active image. */
  readonly image: ExpectedImage;
  /** The image, with its chain, holds what the guest sees. */
  readonly identical: boolean;
  /** The images under the guest afterwards, top first; paths as the record has them. */
  readonly chain: readonly string[];
}

/** The call succeeded and the job failed: the service never does that for problems that can be known before. */
export interface StartedAndFailed {
  readonly verdict: 'started and failed';
}

export type Expected = Refused | Accepted;

/** An intended difference from libvirt. */
export interface Difference<Case> {
  readonly name: string;
  /** The reason, and the place where that is decided. */
  readonly why: string;
  readonly when: (one: Case) => boolean;
  readonly ours: (one: Case) => Expected;
  /** Undefined if QEMU writes every zero. */
  readonly whereZeroesAreLeftOut?: true;
}

/** Whether the QEMU of this machine omits zeroes if a target reads as zeroes. It does so since 10.1. */
export async function leavesZeroesOut(): Promise<boolean> {
  const { stdout } = await run('qemu-system-x86_64', ['--version']);
  const [, major = '0', minor = '0'] = /version (\d+)\.(\d+)/.exec(stdout) ?? [];
  return Number(major) > 10 || (Number(major) === 10 && Number(minor) >= 1);
}

interface Answer {
  readonly verdict: string;
  readonly reasons?: readonly Reason[];
}

/** Whether two answers say the same. A difference with libvirt's answer is not a difference. */
export function isSame(ours: Answer, libvirts: Answer): boolean {
  if (ours.reasons === undefined || libvirts.reasons === undefined)
    return JSON.stringify(ours) === JSON.stringify(libvirts);
  return ours.reasons.some((reason) => libvirts.reasons?.includes(reason));
}

// ---- errors ---------------------------------------------------------------------------------------------

/** libvirt's error, by number and by text, and the reasons with the same meaning. */
const SAME: readonly (readonly [code: number, text: RegExp, ...reasons: Reason[]])[] = [
  [8, /^use of flags requires a copy job$/, 'FLAG_REQUIRES_COPY'],
  [8, /^base in virDomainBlockRebase must not be NULL$/, 'BASE_REQUIRED'],
  [8, /RELATIVE is valid only with non-null base$/, 'BASE_REQUIRED'],
  // An empty path has an error of its own here: the base is missing.
  [8, /absolute path must be used as block copy target$/, 'PATH_NOT_ABSOLUTE', 'BASE_REQUIRED'],
  [8, /^invalid argument: blockdev flag requested for disk /, 'NOT_A_BLOCK_DEVICE'],
  [8, /could not find image '.*' beneath '.*' in chain for '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [8, /could not find backing store index '\d+' in chain for '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [8, /requested target '.*' does not match target '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [38, /^missing destination file for disk /, 'DESTINATION_MISSING'],
  [55, /can't keep relative backing relationship$/, 'RELATIVE_UNSUPPORTED'],
  [67, /^unsupported configuration: external destination file for disk .* already exists /, 'DESTINATION_EXISTS'],
  [67, /^unsupported configuration: shallow copy of disk '.*' into a raw file is not possible$/, 'SHALLOW_INTO_RAW'],
  [8, /^invalid argument: could not find image '.*' in chain for '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [8, /^invalid argument: could not find base image in chain for '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [8, /^invalid argument: top '.*' in chain for '.*' has no backing file$/, 'BASE_NOT_IN_CHAIN'],
  [8, /^invalid argument: base '.*' is not immediately below '.*' in chain for '.*'$/, 'BASE_NOT_IN_CHAIN'],
  [8, /^invalid argument: commit of '.*' active layer requires active flag$/, 'FIELD_INVALID'],
  [8, /^invalid argument: active commit requested but '.*' is not active$/, 'FIELD_INVALID'],
  [8, /^disk in virDomain\w+ must not be NULL$/, 'FIELD_INVALID'],
  [8, /^invalid argument: granularity must be power of 2$/, 'GRANULARITY_INVALID'],
  [1, /'blockdev-mirror': Parameter 'granularity' expects uint32_t$/, 'GRANULARITY_INVALID'],
  [1, /'blockdev-mirror': Invalid parameter 'buf-size'$/, 'BUFFER_INVALID'],
  [82, /^numerical overflow: bandwidth must be less than \d+$/, 'BANDWIDTH_OUT_OF_RANGE'],
  [1, /^internal error: argument key 'speed' must not be negative$/, 'BANDWIDTH_OUT_OF_RANGE'],
  [83, /^block copy still active: disk '.*' already in active block job$/, 'BLOCK_COPY_ACTIVE'],
  [84, /^Operation not supported: disk '.*' already in active block job$/, 'BLOCK_JOB_ACTIVE'],
  [55, /^Requested operation is not valid: domain has active block job$/, 'BLOCK_COPY_ACTIVE', 'BLOCK_JOB_ACTIVE'],
  [1, /'block_resize': Device '.*' is in use$/, 'BLOCK_COPY_ACTIVE', 'BLOCK_JOB_ACTIVE'],
  // libvirt says "yet" of a pull too, which can never pivot.
  [83, /^block copy still active: block job '.*' not ready for pivot yet$/, 'JOB_NOT_READY', 'PIVOT_UNSUPPORTED'],
  [8, /^invalid argument: disk \w+ does not have an active block job$/, 'JOB_ENDED', 'DISK_HAS_NO_JOB'],
  [1, /'blockdev-add': (Image is not in qcow2 format|Unsupported cluster size: 2\^0)$/, 'FORMAT_UNKNOWN'],
  [55, /^Requested operation is not valid: format of backing image '.*' of image '.*' was not spec/, 'CHAIN_UNUSABLE'],
  [
    38,
    /^Cannot access backing file '.*' of storage file '.*' \(as uid:\d+, gid:\d+\): No such file or directory$/,
    'DESTINATION_MISSING',
  ],
  [38, /^failed to create copy target: No such file or directory$/, 'DESTINATION_MISSING'],
  [19, /^missing source information for device$/, 'PATH_NOT_ABSOLUTE'],
  // A drive without a medium: libvirt's own bugs.
  [1, /^internal error: failed to update capacity data for block node '\(null\)'$/, 'DISK_EMPTY'],
  [1, /^internal error: argument key 'device' must not have null value$/, 'DISK_EMPTY'],
  // A folder has no reason of its own here; where libvirt reports it, a documented difference does too.
  [67, /'directory' storage format is not directly supported by QEMU/, 'FORMAT_UNKNOWN'],
  [74, /^argument unsupported: Relative backing during copy not supported yet$/, 'RELATIVE_UNSUPPORTED'],
  [1, /'blockdev-(add|mirror)': Failed to get "write" lock/, 'DESTINATION_IN_USE'],
  [1, /'blockdev-add': 'file' driver requires '.*' to be a regular file/, 'REFUSED_BY_QEMU'],
  [9, /^operation failed: failed to format image: /, 'REFUSED_BY_QEMU'],
];

/** The reasons with the meaning of libvirt's error; an error that is missing in the table is a gap of the table. */
export function reasonsFor({ code, message }: RecordedError): readonly Reason[] {
  for (const [number, text, ...reasons] of SAME) if (number === code && text.test(message)) return reasons;
  throw new Error(`no reason is known for libvirt's error ${code} "${message}"`);
}

/** All reasons that a refused call reports: that of the whole, and that of each field. */
export function reasonsOf(error: unknown): readonly string[] {
  const { reason } = refusalOf(error);
  const metadata = error instanceof Error && 'metadata' in error ? error.metadata : undefined;
  const [bytes] = metadata instanceof Metadata ? metadata.get('grpc-status-details-bin') : [];
  const { details } = Buffer.isBuffer(bytes) ? Status.decode(bytes) : Status.fromPartial({});
  const fields = details
    .filter(({ typeUrl }) => typeUrl.endsWith('google.rpc.BadRequest'))
    .flatMap(({ value }) => BadRequest.decode(value).fieldViolations.map((violation) => violation.reason));
  return [...new Set([reason, ...fields])];
}
