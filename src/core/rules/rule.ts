/** The words of rules: each checks a part of a request and returns its violations, so that all are reported together. */
import { BlockJobError, type Violation, violation } from '../errors.ts';
import type { Labels } from '../job/labels.ts';
import type { Accept } from '../job-options.ts';
import type { Given, StartRequest } from '../requests.ts';

export const INT64_MAX = 2n ** 63n - 1n;

export function required(field: string, value: string, what: string): Violation[] {
  return value === '' ? [violation(field, 'FIELD_INVALID', { field, problem: `is empty; give ${what}` })] : [];
}

export function absolutePath(field: string, path: string): Violation[] {
  if (!path.startsWith('/')) return [violation(field, 'PATH_NOT_ABSOLUTE', { field, path })];
  if (path.includes('\0')) return [invalid(field, 'holds a NUL byte')];
  if (path.endsWith('/')) return [invalid(field, 'names a folder; add the name of the file to make')];
  if (/(^|\/)\.{1,2}(\/|$)/.test(path)) return [invalid(field, 'holds "." or ".." as a folder; write the plain path')];
  // Node, QEMU and the kernel (PATH_MAX) agree on this.
  if (path.length > 4095) return [invalid(field, 'is longer than 4095 characters')];
  return [];
}

export function bandwidth(field: string, value: bigint): Violation[] {
  if (value >= 0n && value <= INT64_MAX) return [];
  return [violation(field, 'BANDWIDTH_OUT_OF_RANGE', { field, value, maximum: INT64_MAX })];
}

const MIB = 1024n * 1024n;

/** A limit in MiB per second, or in bytes per second: libvirt's two units. */
export function bandwidthIn(unit: 'MIB' | 'BYTES', value: bigint): Violation[] {
  const maximum = unit === 'BYTES' ? INT64_MAX : INT64_MAX / MIB;
  if (value >= 0n && value <= maximum) return [];
  return [violation('bandwidth', 'BANDWIDTH_OUT_OF_RANGE', { field: 'bandwidth', value, maximum })];
}

export function bytesPerSecond(unit: 'MIB' | 'BYTES', value: bigint): number {
  return bandwidthOf(unit === 'BYTES' ? value : value * MIB);
}

/** The greatest double below 2^63: beyond 2^53 doubles are multiples of a power of two, at the end of 1024. */
const GREATEST_LIMIT = 2 ** 63 - 1024;

/** The limit for QEMU: it never overflows, is never 0 (no limit), and is exact for all speeds that a disk could have. */
export function bandwidthOf(value: bigint): number {
  return Math.min(Number(value), GREATEST_LIMIT);
}

/** The rule for every call that may be repeated. */
export function requestIdRules({ requestId }: { readonly requestId: string }): Violation[] {
  if (/^[\x21-\x7e]{0,128}$/.test(requestId)) return [];
  return [invalid('request_id', 'must be 1 to 128 printable ASCII characters without spaces, as a UUID; or empty')];
}

function diskRules({ disk }: StartRequest): Violation[] {
  return [
    ...required('disk.domain', disk.domain, 'the name or UUID of a running domain'),
    ...required('disk.disk', disk.disk, 'a disk of the domain'),
  ];
}

/**
 * The losses that the caller of a start accepts. Throws all violations of the request together: the `own` ones, and those
 * of the rules for every call that starts a job.
 */
export function acceptedIn(request: StartRequest, own: readonly Violation[]): ReadonlySet<Accept> {
  const { accept, labels } = request;
  throwIfAny([
    ...diskRules(request),
    ...own,
    ...requestIdRules(request),
    ...accept.flatMap((one) => enumKnown('accept', one)),
    ...(accept.includes(undefined) ? [invalid('accept', 'holds an unspecified value')] : []),
    ...enumKnown('config_owner', request.configOwner),
    ...labelRules('labels', labels),
  ]);
  return new Set(accept.flatMap((one) => given(one) ?? []));
}

/** The known flags, each once, and the violations. */
export function flagsOf<Flag extends string>(asked: readonly Given<Flag>[]) {
  const flags = new Set(asked.flatMap((flag) => given(flag) ?? []));
  return { flags, violations: asked.flatMap((flag) => enumKnown('flags', flag)) };
}

export function invalid(field: string, problem: string): Violation {
  return violation(field, 'FIELD_INVALID', { field, problem });
}

/** Unknown enum values; a value that is not given is valid. */
export function enumKnown(field: string, value: Given<string>): Violation[] {
  if (typeof value !== 'object') return [];
  return [
    invalid(field, `has no value ${value.unrecognized}; this server is older than its client, or the client is wrong`),
  ];
}

/** The value, or the default if it is not given; to be called if `enumKnown` has found no violation. */
export function given<T extends string>(value: Given<T>): T | undefined {
  return typeof value === 'object' ? undefined : value;
}

/** The error for one field of a request that is wrong. */
export function invalidField(field: string, problem: string): BlockJobError {
  return BlockJobError.ofViolations([invalid(field, problem)]);
}

/** Throws all violations in one error; the first one gives the reason. */
export function throwIfAny([first, ...more]: readonly Violation[]): void {
  if (first !== undefined) throw BlockJobError.ofViolations([first, ...more]);
}

const MOST_LABELS = 32;
const NAME = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** The rules for the labels of a job. They are those of Kubernetes. */
export function labelRules(field: string, labels: Labels = {}): Violation[] {
  const all = Object.entries(labels);
  if (all.length > MOST_LABELS) return [invalid(field, `has ${all.length} labels; ${MOST_LABELS} is the most`)];
  return all.flatMap(([key, value]) => [
    ...(isKey(key) ? [] : [invalid(field, `has the key ${JSON.stringify(key)}; ${KEY}`)]),
    ...(value === '' || NAME.test(value) ? [] : [invalid(field, `has the value ${JSON.stringify(value)}; ${VALUE}`)]),
  ]);
}

const IS_NAME = "1 to 63 letters, digits, '-', '_' and '.', the first and the last a letter or digit";
const KEY = `a key is ${IS_NAME}; before it there may be a DNS name and '/'`;
const VALUE = `a value is empty, or ${IS_NAME}`;

function isKey(key: string): boolean {
  const [name = '', prefix, ...more] = key.split('/').toReversed();
  return more.length === 0 && NAME.test(name) && (prefix === undefined || DNS_NAME.test(prefix));
}
