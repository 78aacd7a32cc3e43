/* oxlint-disable unicorn/consistent-function-scoping */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { catalogue } from '../../../../src/core/catalogue.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { AskedPolicy, CopyRequest } from '../../../../src/core/requests.ts';
import { parseStartCopy } from '../../../../src/core/rules/start-copy.ts';

const REQUEST: CopyRequest = {
  disk: { domain: 'vm1', disk: 'vd0' },
  destination: { kind: 'file', path: '/copies/disk.qcow2' },
  format: undefined,
  encryption: undefined,
  shallow: false,
  reuseExternal: false,
  relativeBacking: false,
  verifyReused: false,
  bandwidthBytesPerSecond: 0n,
  granularityBytes: 0n,
  bufferBytes: 0n,
  writeMode: undefined,
  onReady: undefined,
  onNoSpace: undefined,
  overcommit: false,
  pauseGuest: undefined,
  timeLimitMs: undefined,
  requestId: '',
  validateOnly: false,
  planEtag: '',
  accept: [],
};

const ASKS: AskedPolicy = {
  patienceMs: undefined,
  ceilingBytesPerSecond: 0n,
  switchToBlocking: false,
  chooseGranularity: false,
  atDeadline: undefined,
  maxGuestPauseMs: undefined,
};
const KEY = { secretId: 's0' };

/** Field and reason of all that is wrong, in order. */
function wrongWith(request: Partial<CopyRequest>): string[] {
  try {
    parseStartCopy({ ...REQUEST, ...request });
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return (error.failure.violations ?? []).map(({ field, reason }) => `${field} ${reason}`);
  }
  return [];
}

const file = (path: string): Partial<CopyRequest> => ({ destination: { kind: 'file', path } });

describe('an end policy as understood', () => {
  const policyOf = (endPolicy: AskedPolicy, timeLimitMs?: number) =>
    parseStartCopy({ ...REQUEST, endPolicy, timeLimitMs }).options.endPolicy;

  it('has a patience of a minute, and ABORT at the deadline, if not said otherwise', () => {
    expect(policyOf(ASKS)).toEqual({
      patienceMs: 60_000,
      ceilingBytesPerSecond: 0,
      switchToBlocking: false,
      chooseGranularity: false,
      atDeadline: 'ABORT',
      maxGuestPauseMs: undefined,
    });
    expect(parseStartCopy(REQUEST).options.endPolicy).toBeUndefined();
  });

  it('is as it was asked for', () => {
    const asked = { ...ASKS, patienceMs: 1000, ceilingBytesPerSecond: 2n ** 63n - 1n, switchToBlocking: true };
    expect(policyOf({ ...asked, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 100 }, 1000)).toMatchObject({
      patienceMs: 1000,
      ceilingBytesPerSecond: 2 ** 63 - 1024,
      switchToBlocking: true,
      atDeadline: 'PAUSE_GUEST',
      maxGuestPauseMs: 100,
    });
  });
});

describe('a copy as understood', () => {
  it('has a default for all that was not given, and leaves the format to the source', () => {
    expect(parseStartCopy(REQUEST)).toEqual({
      destination: { kind: 'file', path: '/copies/disk.qcow2' },
      format: undefined,
      encryption: undefined,
      accept: new Set(),
      options: {
        bandwidthBytesPerSecond: 0,
        shallow: false,
        reuseExternal: false,
        relativeBacking: false,
        verifyReused: false,
        granularityBytes: undefined,
        bufferBytes: 16_777_216,
        writeMode: 'BACKGROUND',
        onReady: 'HOLD',
        onNoSpace: 'PAUSE',
        overcommit: false,
        pauseGuest: 'AUTO',
        timeLimitMs: undefined,
        basePath: '',
        topPath: '',
        deleteCommitted: false,
      },
    });
  });

  it('has the given values', () => {
    const given: CopyRequest = {
      ...REQUEST,
      format: 'QCOW2',
      bandwidthBytesPerSecond: 1_000_000n,
      granularityBytes: 4096n,
      bufferBytes: 33_554_432n,
      writeMode: 'BACKGROUND',
      onReady: 'PIVOT',
      onNoSpace: 'FAIL',
      pauseGuest: 'NEVER',
      shallow: true,
      relativeBacking: true,
      timeLimitMs: 1000,
      accept: ['SHARED_WRITER', 'LOSES_ENCRYPTION', 'SHARED_WRITER'],
    };
    expect(parseStartCopy(given)).toEqual({
      destination: { kind: 'file', path: '/copies/disk.qcow2' },
      format: 'QCOW2',
      accept: new Set(['SHARED_WRITER', 'LOSES_ENCRYPTION']),
      options: {
        ...parseStartCopy(REQUEST).options,
        shallow: true,
        relativeBacking: true,
        timeLimitMs: 1000,
        bandwidthBytesPerSecond: 1_000_000,
        granularityBytes: 4096,
        bufferBytes: 33_554_432,
        onReady: 'PIVOT',
        onNoSpace: 'FAIL',
        pauseGuest: 'NEVER',
      },
    });
  });

  it('has a speed up to the greatest that a number can hold, and that survives the journal', () => {
    const { options } = parseStartCopy({ ...REQUEST, bandwidthBytesPerSecond: 2n ** 63n - 1n });
    expect(BigInt(options.bandwidthBytesPerSecond)).toBe(2n ** 63n - 1024n);
  });
});

describe('the errors of a request', () => {
  const NEWER = { unrecognized: 9 };
  const nbd = (more: Partial<Extract<CopyRequest['destination'], { kind: 'nbd' }>['nbd']>): Partial<CopyRequest> => {
    const server = { kind: 'unix', path: '/s' } as const;
    return {
      destination: { kind: 'nbd', nbd: { server, exportName: '', tlsCredentialsId: '', tlsHostname: '', ...more } },
    };
  };
  it.each<[string, Partial<CopyRequest>, string]>([
    ['no domain', { disk: { domain: '', disk: 'vd0' } }, 'disk.domain FIELD_INVALID'],
    ['no disk', { disk: { domain: 'vm1', disk: '' } }, 'disk.disk FIELD_INVALID'],
    ['no destination', { destination: undefined }, 'destination FIELD_INVALID'],
    ['a relative path', file('disk.qcow2'), 'destination.file PATH_NOT_ABSOLUTE'],
    ['an empty path', file(''), 'destination.file PATH_NOT_ABSOLUTE'],
    ['a NUL in the path', file('/copies/a\0b'), 'destination.file FIELD_INVALID'],
    ['a folder', file('/copies/'), 'destination.file FIELD_INVALID'],
    ['the root folder', file('/'), 'destination.file FIELD_INVALID'],
    ['a way out of a folder', file('/copies/../etc/x'), 'destination.file FIELD_INVALID'],
    ['the folder above as the file', file('/copies/..'), 'destination.file FIELD_INVALID'],
    ['a dot as a folder', file('/copies/./x'), 'destination.file FIELD_INVALID'],
    ['a path beyond PATH_MAX', file(`/${'x'.repeat(4095)}`), 'destination.file FIELD_INVALID'],
    [
      'a block device by a relative path',
      { destination: { kind: 'block-device', path: 'vdb' } },
      'destination.block_device PATH_NOT_ABSOLUTE',
    ],
    ['an NBD export without a server', nbd({ server: undefined }), 'destination.nbd FIELD_INVALID'],
    [
      'an NBD server without a host',
      nbd({ server: { kind: 'tcp', host: '', port: 1 } }),
      'destination.nbd.tcp.host FIELD_INVALID',
    ],
    [
      'a text that is not an NBD port',
      nbd({ server: { kind: 'tcp', host: 'h', port: 65_536 } }),
      'destination.nbd.tcp.port FIELD_INVALID',
    ],
    [
      'an NBD socket by a relative path',
      nbd({ server: { kind: 'unix', path: 's' } }),
      'destination.nbd.unix_socket PATH_NOT_ABSOLUTE',
    ],
    ['an export name beyond 4096', nbd({ exportName: 'x'.repeat(4097) }), 'destination.nbd.export_name FIELD_INVALID'],
    [
      'credentials that are not an id',
      nbd({ tlsCredentialsId: '-x' }),
      'destination.nbd.tls_credentials_id FIELD_INVALID',
    ],
    ['a TLS name without TLS', nbd({ tlsHostname: 'h' }), 'destination.nbd.tls_hostname FIELD_INVALID'],
    ['QCOW2 over NBD', { ...nbd({}), format: 'QCOW2' }, 'destination.format FIELD_INVALID'],
    ['encryption over NBD', { ...nbd({}), encryption: KEY }, 'destination.encryption FIELD_INVALID'],
    ['encryption of raw', { format: 'RAW', encryption: KEY }, 'destination.encryption FIELD_INVALID'],
    ...['', '-x', '1', 'a b', 'a/b', `a${'b'.repeat(127)}`, 'Zm9vYmFy+w=='].map(
      (secretId) =>
        [
          `a secret by the id "${secretId}"`,
          { encryption: { secretId } },
          'destination.encryption.secret_id FIELD_INVALID',
        ] satisfies [string, Partial<CopyRequest>, string],
    ),
    ['a format of the future', { format: NEWER }, 'destination.format FIELD_INVALID'],
    ['a write mode of the future', { writeMode: NEWER }, 'write_mode FIELD_INVALID'],
    ['an on_ready of the future', { onReady: NEWER }, 'on_ready FIELD_INVALID'],
    ['an on_no_space of the future', { onNoSpace: NEWER }, 'on_no_space FIELD_INVALID'],
    ['a pause_guest of the future', { pauseGuest: NEWER }, 'pause_guest FIELD_INVALID'],
    ['a negative speed', { bandwidthBytesPerSecond: -1n }, 'bandwidth_bytes_per_second BANDWIDTH_OUT_OF_RANGE'],
    [
      'a speed beyond 2^63-1',
      { bandwidthBytesPerSecond: 2n ** 63n },
      'bandwidth_bytes_per_second BANDWIDTH_OUT_OF_RANGE',
    ],
    ['a relative backing file of a full copy', { relativeBacking: true }, 'relative_backing RELATIVE_UNSUPPORTED'],
    [
      'a relative backing file of a reused image',
      { relativeBacking: true, shallow: true, reuseExternal: true },
      'relative_backing RELATIVE_UNSUPPORTED',
    ],
    ['a comparison for a whole copy', { verifyReused: true, reuseExternal: true }, 'verify_reused FIELD_INVALID'],
    ['a comparison with what is made', { verifyReused: true, shallow: true }, 'verify_reused FIELD_INVALID'],
    ['BLOCKING that is to FAIL', { writeMode: 'BLOCKING', onNoSpace: 'FAIL' }, 'on_no_space FIELD_INVALID'],
    ['a time limit below a second', { timeLimitMs: 999 }, 'time_limit FIELD_INVALID'],
    ['a time limit beyond 30 days', { timeLimitMs: 30 * 86_400_000 + 1 }, 'time_limit FIELD_INVALID'],
    ['a time limit that is not a number', { timeLimitMs: Number.NaN }, 'time_limit FIELD_INVALID'],
    [
      'switch_to_blocking that is to FAIL',
      { endPolicy: { ...ASKS, switchToBlocking: true }, onNoSpace: 'FAIL' },
      'on_no_space FIELD_INVALID',
    ],
    ['a patience below a second', { endPolicy: { ...ASKS, patienceMs: 999 } }, 'end_policy.patience FIELD_INVALID'],
    [
      'a patience beyond a day',
      { endPolicy: { ...ASKS, patienceMs: 86_400_001 } },
      'end_policy.patience FIELD_INVALID',
    ],
    [
      'a negative ceiling',
      { endPolicy: { ...ASKS, ceilingBytesPerSecond: -1n } },
      'end_policy.bandwidth_ceiling_bytes_per_second BANDWIDTH_OUT_OF_RANGE',
    ],
    [
      'HOLD at a deadline that is not there',
      { endPolicy: { ...ASKS, atDeadline: 'HOLD' } },
      'end_policy.at_deadline FIELD_INVALID',
    ],
    [
      'PAUSE_GUEST at a deadline that is not there',
      { endPolicy: { ...ASKS, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 1000 } },
      'end_policy.at_deadline FIELD_INVALID',
    ],
    [
      'an at_deadline of the future',
      { endPolicy: { ...ASKS, atDeadline: NEWER } },
      'end_policy.at_deadline FIELD_INVALID',
    ],
    [
      'PAUSE_GUEST without a longest pause',
      { endPolicy: { ...ASKS, atDeadline: 'PAUSE_GUEST' }, timeLimitMs: 1000 },
      'end_policy.max_guest_pause FIELD_INVALID',
    ],
    [
      'a longest pause of no pause',
      { endPolicy: { ...ASKS, maxGuestPauseMs: 1000 } },
      'end_policy.max_guest_pause FIELD_INVALID',
    ],
    ...[99, 5001, Number.NaN].map((maxGuestPauseMs): [string, Partial<CopyRequest>, string] => [
      `a longest pause of ${maxGuestPauseMs} ms`,
      { endPolicy: { ...ASKS, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs }, timeLimitMs: 1000 },
      'end_policy.max_guest_pause FIELD_INVALID',
    ]),
    ['a text that is not a loss', { accept: [undefined] }, 'accept FIELD_INVALID'],
    ['a loss that nobody knows', { accept: ['SHARED_WRITER', { unrecognized: 9 }] }, 'accept FIELD_INVALID'],
    ['a request id with a space', { requestId: 'a b' }, 'request_id FIELD_INVALID'],
    ['a request id with a letter outside ASCII', { requestId: 'é' }, 'request_id FIELD_INVALID'],
    ['a request id with a line break', { requestId: 'x\n' }, 'request_id FIELD_INVALID'],
    ['a request id that is too long', { requestId: 'x'.repeat(129) }, 'request_id FIELD_INVALID'],
  ])('%s', (_name, request, expected) => {
    expect(wrongWith(request)).toEqual([expected]);
  });

  it('are reported all at once, in the order of the fields', () => {
    expect(
      wrongWith({
        disk: { domain: '', disk: '' },
        destination: { kind: 'file', path: 'x' },
        bandwidthBytesPerSecond: 2n ** 64n,
        granularityBytes: 3n,
        bufferBytes: -1n,
        relativeBacking: true,
        requestId: ' ',
      }),
    ).toEqual([
      'disk.domain FIELD_INVALID',
      'disk.disk FIELD_INVALID',
      'destination.file PATH_NOT_ABSOLUTE',
      'bandwidth_bytes_per_second BANDWIDTH_OUT_OF_RANGE',
      'granularity_bytes GRANULARITY_INVALID',
      'buffer_bytes BUFFER_INVALID',
      'relative_backing RELATIVE_UNSUPPORTED',
      'request_id FIELD_INVALID',
    ]);
  });

  it.each(['/x', '/a b/c', '/copies/..x', '/copies/x..', '/copies/...', `/${'x'.repeat(4094)}`])(
    'do not concern the path %s',
    (path) => {
      expect(wrongWith(file(path))).toEqual([]);
    },
  );

  it('is a granularity that is not 0 or a power of two from 512 to 64 MiB', () => {
    const fine = new Set(Array.from({ length: 18 }, (_, index) => 2n ** BigInt(index + 9)));
    const neighbours = Array.from({ length: 66 }, (_, index) => 2n ** BigInt(index));
    for (const power of neighbours) {
      for (const value of [power - 1n, power, power + 1n, -power]) {
        const expected = value === 0n || fine.has(value) ? [] : ['granularity_bytes GRANULARITY_INVALID'];
        expect({ value, wrong: wrongWith({ granularityBytes: value }) }).toEqual({ value, wrong: expected });
      }
    }
    expect([...fine].at(0)).toBe(512n);
    expect([...fine].at(-1)).toBe(67_108_864n);
  });

  it('is a buffer below 0 or beyond 256 MiB', () => {
    for (const value of [0n, 1n, 268_435_455n, 268_435_456n]) expect(wrongWith({ bufferBytes: value })).toEqual([]);
    for (const value of [-1n, 268_435_457n, 2n ** 64n])
      expect(wrongWith({ bufferBytes: value })).toEqual(['buffer_bytes BUFFER_INVALID']);
  });

  it('do not include a buffer that is too small for QEMU: it is raised', () => {
    const bytesOf = (bufferBytes: bigint) => parseStartCopy({ ...REQUEST, bufferBytes }).options.bufferBytes;
    expect([0n, 1n, 16_777_215n, 16_777_216n, 16_777_217n].map(bytesOf)).toEqual([
      16_777_216, 16_777_216, 16_777_216, 16_777_216, 16_777_217,
    ]);
  });

  it('do not include encryption of qcow2, which is the format then', () => {
    for (const format of [undefined, 'QCOW2'] as const)
      expect(parseStartCopy({ ...REQUEST, format, encryption: KEY })).toMatchObject({
        format: 'QCOW2',
        encryption: KEY,
      });
  });

  it('do not repeat a key that a caller may have given as an id', () => {
    const request = { ...REQUEST, encryption: { secretId: 'Zm9vYmFy+w==' } };
    expect(() => parseStartCopy(request)).toThrow(/destination.encryption.secret_id: (?!.*Zm9v)/);
  });

  it('do not include a comparison for a shallow copy into an existing destination, which an NBD export always is', () => {
    expect(wrongWith({ verifyReused: true, shallow: true, reuseExternal: true })).toEqual([]);
    expect(wrongWith({ ...nbd({}), verifyReused: true, shallow: true })).toEqual([]);
  });

  it('is nothing about a speed of 0, 1 or 2^63-1', () => {
    for (const value of [0n, 1n, 2n ** 63n - 1n]) expect(wrongWith({ bandwidthBytesPerSecond: value })).toEqual([]);
  });
});

const given = <T extends string>(...values: T[]) =>
  fc.oneof(fc.constant(undefined), fc.constantFrom(...values), fc.record({ unrecognized: fc.integer() }));

/** Any text, and any text that looks like a path. */
const path = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.array(fc.constantFrom('/', '.', '..', 'a', '\0', ' '), { maxLength: 8 }).map((parts) => parts.join('')),
);

const anyRequest: fc.Arbitrary<CopyRequest> = fc.record({
  disk: fc.record({ domain: fc.string(), disk: fc.string() }),
  destination: fc.oneof(
    fc.constant(undefined),
    path.map((at) => ({ kind: 'file', path: at }) as const),
    path.map((at) => ({ kind: 'block-device', path: at }) as const),
    fc.record({
      kind: fc.constant('nbd' as const),
      nbd: fc.record({
        server: fc.oneof(
          fc.constant(undefined),
          path.map((at) => ({ kind: 'unix', path: at }) as const),
          fc.record({ kind: fc.constant('tcp' as const), host: fc.string(), port: fc.integer() }),
        ),
        exportName: fc.string(),
        tlsCredentialsId: fc.string(),
        tlsHostname: fc.string(),
      }),
    }),
  ),
  format: given('RAW', 'QCOW2'),
  encryption: fc.option(fc.record({ secretId: fc.string() }), { nil: undefined }),
  shallow: fc.boolean(),
  reuseExternal: fc.boolean(),
  relativeBacking: fc.boolean(),
  verifyReused: fc.boolean(),
  bandwidthBytesPerSecond: fc.bigInt(),
  granularityBytes: fc.oneof(
    fc.bigInt(),
    fc.nat({ max: 70 }).map((bit) => 2n ** BigInt(bit)),
  ),
  bufferBytes: fc.bigInt(),
  writeMode: given('BACKGROUND', 'BLOCKING'),
  onReady: given('HOLD', 'PIVOT', 'FINISH'),
  onNoSpace: given('PAUSE', 'FAIL'),
  overcommit: fc.boolean(),
  pauseGuest: given('AUTO', 'ALWAYS', 'NEVER'),
  timeLimitMs: fc.option(fc.double(), { nil: undefined }),
  requestId: fc.string(),
  validateOnly: fc.boolean(),
  planEtag: fc.string(),
  accept: fc.array(given('LOSES_ENCRYPTION', 'SHARED_WRITER')),
});

/** The problems of the answer to a request; throws an error that is neither an answer nor a refusal. */
function complaintsAbout(request: CopyRequest): { understood: boolean; complaints: string[] } {
  try {
    const { destination, options } = parseStartCopy(request);
    const at = destination.kind === 'nbd' ? '/x' : destination.path;
    const complaints = [
      ...(/^\/.*[^/]$/su.test(at) ? [] : [`path ${at}`]),
      ...(options.bandwidthBytesPerSecond >= 0 && options.bandwidthBytesPerSecond < 2 ** 63 ? [] : ['speed']),
      ...(options.bufferBytes >= 16_777_216 ? [] : ['buffer']),
    ];
    return { understood: true, complaints };
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    const { violations = [] } = error.failure;
    const right = violations.filter(
      ({ reason, text, field }) =>
        ['INVALID_ARGUMENT', 'UNIMPLEMENTED', 'FAILED_PRECONDITION'].includes(catalogue[reason].code) &&
        field !== '' &&
        text !== '',
    );
    const complete = violations.length > 0 && right.length === violations.length;
    return { understood: false, complaints: complete ? [] : [error.message] };
  }
}

describe('any request whatever', () => {
  it('is understood or refused with violations, each with a code for arguments, and nothing else', () => {
    // Most fields of most requests stay as they should be: else hardly one would be understood.
    const mostlyRight = fc
      .tuple(anyRequest, fc.subarray(Object.keys(REQUEST) as (keyof CopyRequest)[]))
      .map(([any, kept]) => ({ ...any, ...Object.fromEntries(kept.map((key) => [key, REQUEST[key]])) }));
    const seen = { understood: 0, refused: 0 };
    fc.assert(
      fc.property(fc.oneof(anyRequest, mostlyRight), (request) => {
        const { understood, complaints } = complaintsAbout(request);
        seen[understood ? 'understood' : 'refused'] += 1;
        expect(complaints).toEqual([]);
      }),
      { numRuns: 2000, examples: [[REQUEST]] },
    );
    expect(Math.min(seen.understood, seen.refused)).toBeGreaterThan(0);
  });
});
