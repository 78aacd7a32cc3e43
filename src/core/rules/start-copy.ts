/** The rules of StartCopy that need nothing but the request, and what a request that keeps them means. */
import type { CopyRequest } from '../block-jobs.ts';
import { type Violation, violation } from '../errors.ts';
import type { CopyOptions, ImageFormat } from '../journal-entry.ts';
import { absolutePath, bandwidth, bandwidthOf, given, invalid, known, notYet, required, throwIfAny } from './rule.ts';

/** A copy in which nothing is unspecified but the format, which is the source's then. */
export interface CopySpec {
  readonly path: string;
  readonly format: ImageFormat | undefined;
  readonly options: Omit<CopyOptions, 'format'>;
}

const MIB = 1024 * 1024;
/** A larger one only holds more of the guest's writes back; QEMU allocates it. */
const BUFFER_MAXIMUM_BYTES = 256n * 1024n * 1024n;
const GRANULARITY_RANGE = { minimum: 512n, maximum: 64n * 1024n * 1024n };

/** Throws all that is wrong with the request, at once. */
export function parseStartCopy(request: CopyRequest): CopySpec {
  const path = request.destination?.kind === 'file' ? request.destination.path : '';
  throwIfAny([
    ...required('disk.domain', request.disk.domain, 'the name or UUID of a running domain'),
    ...required('disk.disk', request.disk.disk, 'a disk of the domain'),
    ...destination(request),
    ...known('destination.format', request.format),
    ...known('write_mode', request.writeMode),
    ...known('on_ready', request.onReady),
    ...known('on_no_space', request.onNoSpace),
    ...known('pause_guest', request.pauseGuest),
    ...bandwidth('bandwidth_bytes_per_second', request.bandwidthBytesPerSecond),
    ...granularity(request.granularityBytes),
    ...buffer(request.bufferBytes),
    ...notYet('shallow', request.shallow, 'a shallow copy'),
    ...notYet('reuse_external', request.reuseExternal, 'the reuse of an existing destination'),
    ...notYet('relative_backing', request.relativeBacking, 'a relative backing file name'),
    ...notYet('write_mode', request.writeMode === 'BLOCKING', 'write mode BLOCKING'),
    ...notYet('time_limit', request.timeLimitMs !== undefined, 'a time limit'),
    ...notYet('request_id', request.requestId !== '', 'request ids'),
    ...notYet('validate_only', request.validateOnly, 'validation without a start'),
    ...notYet('plan_etag', request.planEtag !== '', 'plans that are bound'),
  ]);
  return {
    path,
    format: given(request.format),
    options: {
      bandwidthBytesPerSecond: bandwidthOf(request.bandwidthBytesPerSecond),
      granularityBytes: request.granularityBytes === 0n ? undefined : Number(request.granularityBytes),
      // QEMU's own default of 16 MiB makes a speed limit jump, and a slow target block the monitor for long.
      bufferBytes: request.bufferBytes === 0n ? MIB : Number(request.bufferBytes),
      onReady: given(request.onReady) ?? 'HOLD',
      onNoSpace: given(request.onNoSpace) ?? 'PAUSE',
      pauseGuest: given(request.pauseGuest) ?? 'AUTO',
    },
  };
}

function destination({ destination: target }: CopyRequest): Violation[] {
  switch (target?.kind) {
    case undefined:
      return [invalid('destination', 'is missing; give destination.file, the absolute path of a new file')];
    case 'file':
      return absolutePath('destination.file', target.path);
    case 'block-device':
      return notYet('destination.block_device', true, 'a copy to a block device');
    case 'nbd':
      return notYet('destination.nbd', true, 'a copy over NBD');
  }
}

function granularity(value: bigint): Violation[] {
  const inRange = value >= GRANULARITY_RANGE.minimum && value <= GRANULARITY_RANGE.maximum;
  if (value === 0n || (inRange && (value & (value - 1n)) === 0n)) return [];
  return [violation('granularity_bytes', 'GRANULARITY_INVALID', { value: String(value) })];
}

function buffer(value: bigint): Violation[] {
  if (value >= 0n && value <= BUFFER_MAXIMUM_BYTES) return [];
  return [
    violation('buffer_bytes', 'BUFFER_INVALID', {
      value: String(value),
      maximum: String(BUFFER_MAXIMUM_BYTES),
    }),
  ];
}
