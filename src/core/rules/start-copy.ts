/** The rules of StartCopy that need only the request, and the meaning of a valid request. */

import { type Destination, type Encryption, isServed, type NbdExport } from '../destination.ts';
import { type Violation, violation } from '../errors.ts';
import { type Accept, type ImageFormat, type JobOptions, LEAST_BUFFER_BYTES, plainOptions } from '../job-options.ts';
import type { CopyRequest } from '../requests.ts';
import { endPolicyOf, endPolicyRules } from './end-policy.ts';
import { absolutePath, acceptedIn, bandwidth, bandwidthOf, enumKnown, given, invalid, required } from './rule.ts';

/** A copy in which only the format may be unspecified; then it is the format of the source, or of the destination. */
export interface CopySpec {
  readonly destination: Destination;
  readonly format: ImageFormat | undefined;
  readonly encryption: Encryption | undefined;
  readonly options: JobOptions;
  readonly accept: ReadonlySet<Accept>;
}

/** A larger one only delays more writes of the guest, and QEMU allocates it. */
const BUFFER_MAXIMUM_BYTES = 256n * 1024n * 1024n;
const GRANULARITY_RANGE = { minimum: 512n, maximum: 64n * 1024n * 1024n };
const TIME_LIMIT_RANGE_MS = { minimum: 1000, maximum: 30 * 24 * 3600 * 1000 };

/** Throws all violations of the request together. */
export function parseStartCopy(request: CopyRequest): CopySpec {
  const onNoSpace = given(request.onNoSpace) ?? 'PAUSE';
  const isSwitched = request.endPolicy?.switchToBlocking === true;
  const mayBlock =
    request.writeMode === 'BLOCKING' ? 'write_mode BLOCKING' : isSwitched && 'end_policy.switch_to_blocking';
  const { target, violations } = destinationOf(request);
  const accept = acceptedIn(request, [
    ...violations,
    ...enumKnown('destination.format', request.format),
    ...encryptionRules(request),
    ...enumKnown('write_mode', request.writeMode),
    ...enumKnown('on_ready', request.onReady),
    ...enumKnown('on_no_space', request.onNoSpace),
    ...enumKnown('pause_guest', request.pauseGuest),
    ...bandwidth('bandwidth_bytes_per_second', request.bandwidthBytesPerSecond),
    ...granularity(request.granularityBytes),
    ...buffer(request.bufferBytes),
    ...timeLimit(request.timeLimitMs),
    ...endPolicyRules(request),
    ...relativeBacking(request.relativeBacking, {
      shallow: request.shallow,
      reuse: request.reuseExternal,
      raw: request.format === 'RAW' || isServed(request.destination),
    }),
    ...verifyReused(request),
    ...(mayBlock && onNoSpace === 'FAIL'
      ? [invalid('on_no_space', `cannot be FAIL with ${mayBlock}: QEMU may crash then; use PAUSE`)]
      : []),
  ]);
  const options = plainOptions(bandwidthOf(request.bandwidthBytesPerSecond));
  // Unreachable, because a request without a target has a violation; it is here for the compiler.
  const destination = target ?? { kind: 'file', path: '' };
  return {
    destination,
    accept,
    // LUKS needs qcow2 here.
    format: given(request.format) ?? (request.encryption && 'QCOW2'),
    encryption: request.encryption,
    options: {
      ...options,
      shallow: request.shallow,
      // An NBD export always exists already.
      reuseExternal: request.reuseExternal || isServed(destination),
      relativeBacking: request.relativeBacking,
      verifyReused: request.verifyReused,
      granularityBytes: request.granularityBytes === 0n ? undefined : Number(request.granularityBytes),
      bufferBytes: Math.max(Number(request.bufferBytes), LEAST_BUFFER_BYTES),
      writeMode: given(request.writeMode) ?? 'BACKGROUND',
      onReady: given(request.onReady) ?? 'HOLD',
      onNoSpace,
      overcommit: request.overcommit,
      pauseGuest: given(request.pauseGuest) ?? 'AUTO',
      timeLimitMs: request.timeLimitMs,
      ...(request.endPolicy && { endPolicy: endPolicyOf(request.endPolicy) }),
    },
  };
}

function destinationOf({ destination: asked, format }: CopyRequest): {
  readonly target: Destination | undefined;
  readonly violations: readonly Violation[];
} {
  switch (asked?.kind) {
    case undefined:
      return {
        target: undefined,
        violations: [invalid('destination', 'is missing; give destination.file, the absolute path of a new file')],
      };
    case 'file':
      return { target: asked, violations: absolutePath('destination.file', asked.path) };
    case 'block-device':
      return { target: asked, violations: absolutePath('destination.block_device', asked.path) };
    case 'nbd': {
      const { server, ...more } = asked.nbd;
      const noQcow2 =
        'cannot be QCOW2 over NBD: the header cannot be read in advance. Export the contents of the image (qemu-nbd -f qcow2), and use RAW';
      const wrongFormat = format === 'QCOW2' ? [invalid('destination.format', noQcow2)] : [];
      if (server === undefined) {
        const missing = invalid('destination.nbd', 'does not name a server; give tcp or unix_socket');
        return { target: undefined, violations: [missing, ...wrongFormat] };
      }
      const nbd = { server, ...more };
      return { target: { kind: 'nbd', nbd }, violations: [...nbdRules(nbd), ...wrongFormat] };
    }
  }
}

function nbdRules({ server, exportName, tlsCredentialsId, tlsHostname }: NbdExport): Violation[] {
  const field = 'destination.nbd';
  return [
    ...(server.kind === 'unix' ? absolutePath(`${field}.unix_socket`, server.path) : []),
    ...(server.kind === 'tcp' ? required(`${field}.tcp.host`, server.host, 'a host name or an IP address') : []),
    ...(server.kind === 'tcp' && (server.port < 1 || server.port > 65535)
      ? [invalid(`${field}.tcp.port`, 'must be from 1 to 65535, or 0 for 10809')]
      : []),
    ...(server.kind === 'tcp' && (hasNul(server.host) || server.host.length > 253)
      ? [invalid(`${field}.tcp.host`, 'is not a host name')]
      : []),
    // NBD's NBD_MAX_STRING_SIZE; no character has less than one byte.
    ...(exportName.length > 4096 || hasNul(exportName)
      ? [invalid(`${field}.export_name`, 'is longer than 4096 bytes, or holds a NUL byte')]
      : []),
    ...(tlsCredentialsId === '' || isObjectId(tlsCredentialsId)
      ? []
      : [invalid(`${field}.tls_credentials_id`, 'is not the id of an object in QEMU')]),
    ...(tlsHostname !== '' && tlsCredentialsId === ''
      ? [invalid(`${field}.tls_hostname`, 'is for TLS only: give tls_credentials_id, or leave it out')]
      : []),
    ...(hasNul(tlsHostname) || tlsHostname.length > 253
      ? [invalid(`${field}.tls_hostname`, 'is not a host name')]
      : []),
  ];
}

function encryptionRules({ encryption, format, destination }: CopyRequest): Violation[] {
  if (encryption === undefined) return [];
  const field = 'destination.encryption';
  const only = isServed(destination)
    ? 'is not supported over NBD, whose exports are raw here'
    : format === 'RAW'
      ? 'needs format QCOW2; the format is RAW'
      : undefined;
  return [
    ...(only === undefined ? [] : [invalid(field, only)]),
    // A text that is not an id may be a key by mistake, so the answer does not repeat it.
    ...(isObjectId(encryption.secretId)
      ? []
      : [invalid(`${field}.secret_id`, 'is not the id of an object in QEMU; give the id of a secret in QEMU')]),
  ];
}

/** In the form that QEMU wants. */
function isObjectId(text: string): boolean {
  return /^[A-Za-z][A-Za-z0-9._-]{0,126}$/.test(text);
}

function hasNul(text: string): boolean {
  return text.includes('\0');
}

/** For a copy. A name is written only if a header with a backing file is made. */
export function relativeBacking(asked: boolean, copy: { shallow: boolean; reuse: boolean; raw: boolean }): Violation[] {
  if (!asked || (copy.shallow && !copy.reuse && !copy.raw)) return [];
  const why = copy.reuse
    ? 'an existing destination keeps its own name'
    : copy.raw
      ? 'a raw image has no backing file'
      : 'a copy that is not shallow has no backing file';
  return [violation('relative_backing', 'RELATIVE_UNSUPPORTED', { why })];
}

function verifyReused({ verifyReused: asked, shallow, reuseExternal, destination }: CopyRequest): Violation[] {
  if (!asked || (shallow && (reuseExternal || isServed(destination)))) return [];
  const why =
    'is for a shallow copy into an existing destination (shallow, reuse_external): another copy takes nothing over from it';
  return [invalid('verify_reused', why)];
}

function granularity(value: bigint): Violation[] {
  const inRange = value >= GRANULARITY_RANGE.minimum && value <= GRANULARITY_RANGE.maximum;
  if (value === 0n || (inRange && (value & (value - 1n)) === 0n)) return [];
  return [violation('granularity_bytes', 'GRANULARITY_INVALID', { value })];
}

function buffer(value: bigint): Violation[] {
  if (value >= 0n && value <= BUFFER_MAXIMUM_BYTES) return [];
  return [violation('buffer_bytes', 'BUFFER_INVALID', { value, maximum: BUFFER_MAXIMUM_BYTES })];
}

function timeLimit(ms: number | undefined): Violation[] {
  const { minimum, maximum } = TIME_LIMIT_RANGE_MS;
  return ms === undefined || (ms >= minimum && ms <= maximum)
    ? []
    : [invalid('time_limit', 'must be from 1 second to 30 days; leave it out for no limit')];
}
