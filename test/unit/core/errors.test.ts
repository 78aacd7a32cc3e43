import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { catalogue, type Reason } from '../../../src/core/catalogue.ts';
import { BlockJobError, fail, failure, violation } from '../../../src/core/errors.ts';

const GRPC_CODES: Readonly<Record<string, number>> = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
};

interface Documented {
  readonly number: number;
  readonly code: string;
  /** The first error of libvirt's that the comment names; '-' for "none". */
  readonly libvirt: string;
  readonly keys: readonly string[];
}

/** What the contract's own comments say of each reason. */
function documented(): ReadonlyMap<string, Documented> {
  const path = join(import.meta.dirname, '../../../proto/blockjob/v1/error_reason.proto');
  const found = new Map<string, Documented>();
  let comment: string[] = [];
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const text = /^\s+\/\/ ?(.*)/.exec(line)?.[1];
    const value = /^\s+ERROR_REASON_(\w+) = (\d+);/.exec(line);
    if (text !== undefined) comment.push(text);
    else if (value?.[1] !== undefined && value[1] !== 'UNSPECIFIED') {
      const whole = comment.join(' ');
      const libvirt = /libvirt: (.*?)(?: Keys:|$)/.exec(whole)?.[1] ?? '';
      const keys = /Keys: (.*?)\.$/.exec(whole)?.[1] ?? 'are not documented';
      found.set(value[1], {
        number: Number(value[2]),
        code: /^[A-Z_]+/.exec(whole)?.[0] ?? '',
        libvirt: libvirt.startsWith('none') ? '-' : (/VIR_\w+/.exec(libvirt)?.[0] ?? ''),
        keys: keys === 'none' ? [] : keys.split(', '),
      });
      comment = [];
    } else comment = [];
  }
  return found;
}

const reasons = Object.keys(catalogue) as Reason[];
const inProto = documented();

function parametersOf(text: string): string[] {
  return [...text.matchAll(/\{(\w+)\}/g)].flatMap(([, name]) => name ?? []);
}

/** Words that a reason has beyond its text, for programs: QEMU's class, a row of docs/disks.md. */
const BEYOND_THE_TEXT: Partial<Record<Reason, readonly string[]>> = {
  QEMU_REFUSED: ['qemuClass'],
  IMAGE_UNSUITABLE: ['kind'],
};

function namesErrorOfLibvirt(reason: Reason): void {
  expect(catalogue[reason].libvirt).toBe(inProto.get(reason)?.libvirt);
}

function hasDocumentedKeys(reason: Reason): void {
  const words = [...parametersOf(catalogue[reason].text), ...(BEYOND_THE_TEXT[reason] ?? [])];
  expect([...new Set(words)].toSorted()).toEqual(inProto.get(reason)?.keys.toSorted());
}

describe('the catalogue', () => {
  it('has the reasons of the contract, all of them and no other', () => {
    expect(reasons.toSorted()).toEqual([...inProto.keys()].toSorted());
  });

  it.each(reasons)('%s has the gRPC code that its number and its comment tell', (reason) => {
    const { number, code } = inProto.get(reason) ?? { number: 0, code: '' };
    expect(catalogue[reason].code).toBe(code);
    expect(GRPC_CODES[catalogue[reason].code]).toBe(Math.floor(number / 100));
  });

  it.each(reasons)('%s names the documented error of libvirt', namesErrorOfLibvirt);

  it.each(reasons)('%s has the documented metadata', hasDocumentedKeys);

  it.each(reasons)('%s: the text is filled with every word of the metadata', (reason) => {
    const names = parametersOf(catalogue[reason].text);
    const metadata = Object.fromEntries(names.map((name) => [name, `<${name}'s value>`]));
    const { text } = failure(reason, metadata as never);
    for (const name of names) expect(text).toContain(`<${name}'s value>`);
    expect(text).not.toMatch(/[{}?]/);
  });
});

describe('a failure', () => {
  it('keeps words beyond its text, and leaves braces and dollars in a value alone', () => {
    const made = failure('QEMU_REFUSED', { doing: '{qemuText}', qemuText: '$& $1' }, { qemuClass: 'GenericError' });
    expect(made).toEqual({
      reason: 'QEMU_REFUSED',
      text: 'QEMU refused or failed: {qemuText}: $& $1',
      metadata: { doing: '{qemuText}', qemuText: '$& $1', qemuClass: 'GenericError' },
    });
  });

  it('is thrown with its cause, and its reason comes first in the message', () => {
    const cause = new Error('ENOENT');
    let thrown: unknown;
    try {
      fail('JOB_NOT_FOUND', { job: 'bj1' }, cause);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(BlockJobError);
    expect(thrown).toMatchObject({
      message: 'JOB_NOT_FOUND: no job bj1; ListJobs shows active and ended ones',
      reason: 'JOB_NOT_FOUND',
      cause,
    });
  });

  it('tells all violations at once; the first gives the reason and the field', () => {
    const first = violation('b', 'PATH_NOT_ABSOLUTE', { field: 'b', path: 'x' });
    const second = violation('a', 'BASE_REQUIRED', { field: 'a', why: 'because' });
    expect(BlockJobError.ofViolations([first, second]).failure).toEqual({
      reason: 'PATH_NOT_ABSOLUTE',
      text: 'b must be an absolute path, not "x"; a must be given: because',
      metadata: { field: 'b', path: 'x' },
      violations: [first, second],
    });
  });
});
