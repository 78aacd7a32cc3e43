/** Rule words: each looks at a request and says what is wrong with it, so that all is reported at once. */

import { BlockJobError, type Violation, violation } from '../errors.ts';
import type { Accept } from '../job-options.ts';
import type { DiskRef, Given, StartRequest } from '../requests.ts';

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

/** A limit in MiB a second, or in bytes a second: libvirt's two units. */
export function bandwidthIn(unit: 'MIB' | 'BYTES', value: bigint): Violation[] {
  const maximum = unit === 'BYTES' ? INT64_MAX : INT64_MAX / MIB;
  if (value >= 0n && value <= maximum) return [];
  return [violation('bandwidth', 'BANDWIDTH_OUT_OF_RANGE', { field: 'bandwidth', value, maximum })];
}

export function bytesPerSecond(unit: 'MIB' | 'BYTES', value: bigint): number {
  return bandwidthOf(unit === 'BYTES' ? value : value * MIB);
}

/** The greatest number below 2^63 that a double can be: beyond 2^53 these are multiples, at last of 1024. */
const GREATEST_LIMIT = 2 ** 63 - 1024;

/** A limit as QEMU is given it: never wrapped, never 0, which would be none, and exact wherever a disk could be so fast. */
export function bandwidthOf(value: bigint): number {
  return Math.min(Number(value), GREATEST_LIMIT);
}

/** What every call must keep to that may be repeated. */
export function requestIdRules({ requestId }: { readonly requestId: string }): Violation[] {
  if (/^[\x21-\x7e]{0,128}$/.test(requestId)) return [];
  return [invalid('request_id', 'must be 1 to 128 printable ASCII characters without spaces, as a UUID; or empty')];
}

/** What every call that starts a job must have. */
export function diskRules({ disk }: { readonly disk: DiskRef }): Violation[] {
  return [
    ...required('disk.domain', disk.domain, 'the name or UUID of a running domain'),
    ...required('disk.disk', disk.disk, 'a disk of the domain'),
  ];
}

/** What the caller accepts; and what is wrong with that. */
export function acceptOf({ accept: asked }: Pick<StartRequest, 'accept'>) {
  const accept: ReadonlySet<Accept> = new Set(asked.flatMap((one) => given(one) ?? []));
  const missing = asked.includes(undefined) ? [invalid('accept', 'holds a value that is unspecified')] : [];
  return { accept, violations: [...asked.flatMap((one) => enumKnown('accept', one)), ...missing] };
}

/** The flags that are known, each once; and what is wrong with the others. */
export function flagsOf<Flag extends string>(asked: readonly Given<Flag>[]) {
  const flags = new Set(asked.flatMap((flag) => given(flag) ?? []));
  return { flags, violations: asked.flatMap((flag) => enumKnown('flags', flag)) };
}

export function invalid(field: string, problem: string): Violation {
  return violation(field, 'FIELD_INVALID', { field, problem });
}

/** Enum values that nobody knows; what is merely not given is fine. */
export function enumKnown(field: string, value: Given<string>): Violation[] {
  if (typeof value !== 'object') return [];
  return [
    invalid(field, `has no value ${value.unrecognized}; this server is older than its client, or the client is wrong`),
  ];
}

/** The value, or what stands for none; to be asked when `enumKnown` has found nothing wrong. */
export function given<T extends string>(value: Given<T>): T | undefined {
  return typeof value === 'object' ? undefined : value;
}

/** The error of a request with one field that is wrong. */
export function invalidField(field: string, problem: string): BlockJobError {
  return BlockJobError.ofViolations([invalid(field, problem)]);
}

/** Throws all violations in one error; the first one gives the reason. */
export function throwIfAny([first, ...more]: readonly Violation[]): void {
  if (first !== undefined) throw BlockJobError.ofViolations([first, ...more]);
}
