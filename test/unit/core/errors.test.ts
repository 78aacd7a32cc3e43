import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { catalogue, type Reason } from '../../../src/core/catalogue.ts';
import { BlockJobError, type Failure, fail, failure, violation } from '../../../src/core/errors.ts';

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

/** The contract's own comments about each reason. */
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

function dataOf(text: string): string[] {
  return [...text.matchAll(/\{(\w+)\}/g)].flatMap(([, name]) => name ?? []);
}

function sentencesOf(text: string): string[] {
  return [...text.matchAll(/<(\w+)>/g)].flatMap(([, name]) => name ?? []);
}

/** Data that a reason has beyond its text, for programs: QEMU's class, a row of docs/disks.md. */
const BEYOND_THE_TEXT: Partial<Record<Reason, readonly string[]>> = {
  REFUSED_BY_QEMU: ['qemuClass'],
  IMAGE_UNSUITABLE: ['kind'],
  STORAGE_FAILED: ['path'],
};

function namesErrorOfLibvirt(reason: Reason): void {
  expect(catalogue[reason].libvirt).toBe(inProto.get(reason)?.libvirt);
}

function hasDocumentedKeys(reason: Reason): void {
  const words = [...dataOf(catalogue[reason].text), ...(BEYOND_THE_TEXT[reason] ?? [])];
  expect([...new Set(words)].toSorted()).toEqual(inProto.get(reason)?.keys.toSorted());
}

describe('the catalogue', () => {
  it('has exactly the reasons of the contract', () => {
    expect(reasons.toSorted()).toEqual([...inProto.keys()].toSorted());
  });

  it.each(reasons)('%s has the gRPC code that its number and its comment say', (reason) => {
    const { number, code } = inProto.get(reason) ?? { number: 0, code: '' };
    expect(catalogue[reason].code).toBe(code);
    expect(GRPC_CODES[catalogue[reason].code]).toBe(Math.floor(number / 100));
  });

  it.each(reasons)('%s names the documented error of libvirt', namesErrorOfLibvirt);

  it.each(reasons)('%s has the documented metadata', hasDocumentedKeys);

  it.each(reasons)('%s: the text has all values, the metadata the data', (reason) => {
    const data = dataOf(catalogue[reason].text).map((name) => [name, `[${name}'s-value]`] as const);
    const sentences = sentencesOf(catalogue[reason].text).map((name) => [name, `[the ${name}]`] as const);
    const { text, metadata } = failure(reason, Object.fromEntries([...data, ...sentences]) as never);
    for (const [, value] of [...data, ...sentences]) expect(text).toContain(value);
    expect(text).not.toMatch(/[{}<>?]/);
    expect(metadata).toEqual(Object.fromEntries(data));
  });

  it.each(reasons)('%s: no value is both data and a sentence', (reason) => {
    const { text } = catalogue[reason];
    expect(new Set(dataOf(text)).isDisjointFrom(new Set(sentencesOf(text)))).toBe(true);
  });
});

describe('a failure', () => {
  it('keeps data beyond its text, and does not change braces and dollars in a value', () => {
    const qemuText: string = '$& $1';
    const slots = { domain: 'vm1', doing: '{qemuText}', qemuText };
    expect(failure('REFUSED_BY_QEMU', slots, { qemuClass: 'GenericError' })).toMatchObject({
      reason: 'REFUSED_BY_QEMU',
      text: expect.stringContaining('reported an error ({qemuText}): "$& $1"') as string,
      metadata: { domain: 'vm1', qemuText: '$& $1', qemuClass: 'GenericError' },
    });
  });

  it('does not compile with prose among its data', () => {
    const where = 'vm1';
    const made = [
      // @ts-expect-error: a sentence where a job is named.
      () => failure('JOB_NOT_FOUND', { job: 'that is being started' }),
      // @ts-expect-error: the same, made of parts.
      () => violation('job', 'JOB_NOT_FOUND', { job: `on a disk of ${where}` }),
      // @ts-expect-error: a number is a number.
      () => fail('SIZE_MISMATCH', { path: '/x', destinationBytes: 'another number of', sourceBytes: 1 }),
      // @ts-expect-error: nothing that the text does not name.
      () => failure('JOB_NOT_FOUND', { job: 'bj1', why: 'because' }),
    ];
    expect(made).toHaveLength(4);
    expect(failure('NO_SPACE', { path: '/x', why: 'the disk is full' }).metadata).toEqual({ path: '/x' });
  });

  it('has no prose under the name of data, also if a variable holds it', () => {
    const data = new Set(Object.values(catalogue).flatMap(({ text }) => dataOf(text)));
    data.delete('qemuText');
    const [names, quote] = [[...data].join('|'), '[\'"`]'];
    const prose = new RegExp(
      String.raw`\b(?:${names}): [^,\n{}\x22\x27\x60]*${quote}[^\x27\n]*\w \w[^\x27\n]*${quote}`,
      'g',
    );
    expect("{ domain, job: 'that is being started' }").toMatch(prose);
    expect("{ host, owner: owner ?? 'a gateway' }").toMatch(prose);
    const src = join(import.meta.dirname, '../../../src');
    const found = globSync('{access,agent,core,fleet}/**/*.ts', { cwd: src }).flatMap((path) =>
      [...readFileSync(join(src, path), 'utf8').matchAll(prose)].map(([text]) => `${path}: ${text}`),
    );
    expect(found).toEqual([]);
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
      message: 'JOB_NOT_FOUND: no job has the id bj1; ListJobs lists active and ended jobs',
      reason: 'JOB_NOT_FOUND',
      cause,
    });
  });

  it('has all violations at once; the first gives the reason and the field', () => {
    const first = violation('b', 'PATH_NOT_ABSOLUTE', { field: 'b', path: 'x' });
    const second = violation('a', 'BASE_REQUIRED', { field: 'a', why: 'because' });
    expect(BlockJobError.ofViolations([first, second]).failure).toEqual({
      reason: 'PATH_NOT_ABSOLUTE',
      text: 'b must be an absolute path, not "x"; a is required: because',
      metadata: { field: 'b', path: 'x' },
      violations: [first, second],
    });
  });

  it('of a reason that another version has written down is reported with its words', () => {
    const written = { reason: 'QEMU_REFUSED', text: 'QEMU said no', metadata: { job: 'bj1' } } as unknown as Failure;
    expect(new BlockJobError(written).failure).toEqual({
      reason: 'REASON_UNKNOWN',
      text: 'another version of this service refused the request for a reason that this version does not know (QEMU_REFUSED): QEMU said no; run the same version everywhere',
      metadata: { job: 'bj1', otherReason: 'QEMU_REFUSED' },
    });
  });

  it('is INTERNAL only for an INTERNAL of ours', () => {
    expect(reasons.filter((reason) => catalogue[reason].code === 'INTERNAL')).toEqual(['BUG']);
  });
});
