/** Each of the 128 sets of Rebase's flags, and what they mean: the seed's rules that need nothing but the request. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { RebaseFlag, RebaseRequest } from '../../../../src/core/requests.ts';
import { parseRebase } from '../../../../src/core/rules/rebase.ts';

const FLAGS: readonly RebaseFlag[] = [
  'SHALLOW',
  'REUSE_EXT',
  'COPY_RAW',
  'COPY',
  'RELATIVE',
  'COPY_DEV',
  'BANDWIDTH_BYTES',
];
const SETS = Array.from({ length: 128 }, (_, bits) => FLAGS.filter((_flag, bit) => (bits & (1 << bit)) !== 0));
const REQUEST: RebaseRequest = {
  disk: { domain: 'vm1', disk: 'vd0' },
  base: '/copies/x',
  flags: [],
  bandwidth: 0n,
  overcommit: false,
  requestId: '',
  validateOnly: false,
  planEtag: '',
  accept: [],
};

function reasons(request: Partial<RebaseRequest>): readonly string[] {
  try {
    parseRebase({ ...REQUEST, ...request });
    return [];
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return (error.failure.violations ?? []).map(({ field, reason }) => `${field} ${reason}`);
  }
}

describe('the flags of Rebase', () => {
  it.each(SETS.map((flags) => [flags.join('|'), flags] as const))('%s', (_name, flags) => {
    const has = (flag: RebaseFlag) => flags.includes(flag);
    const copyOnly = FLAGS.filter(
      (flag) => has(flag) && ['SHALLOW', 'REUSE_EXT', 'COPY_RAW', 'COPY_DEV'].includes(flag),
    );
    if (!has('COPY')) {
      expect(reasons({ flags })).toEqual(copyOnly.map(() => 'flags FLAG_REQUIRES_COPY'));
      if (copyOnly.length === 0) expect(parseRebase({ ...REQUEST, flags })).toMatchObject({ does: 'pull' });
      return;
    }
    const mayBeRelative = has('SHALLOW') && !has('REUSE_EXT') && !has('COPY_RAW');
    if (has('RELATIVE') && !mayBeRelative) {
      expect(reasons({ flags })).toEqual(['relative_backing RELATIVE_UNSUPPORTED']);
      return;
    }
    expect(parseRebase({ ...REQUEST, flags })).toMatchObject({
      does: 'copy',
      copy: {
        destination: { kind: 'file', path: '/copies/x', ...(has('COPY_DEV') ? { mustBeDevice: true } : {}) },
        format: has('COPY_RAW') ? 'RAW' : undefined,
        options: {
          shallow: has('SHALLOW'),
          reuseExternal: has('REUSE_EXT'),
          relativeBacking: has('RELATIVE'),
          // As libvirt's: it holds at READY, and fails for want of space.
          onReady: 'HOLD',
          onNoSpace: 'FAIL',
        },
      },
    });
  });

  it('count once, however often they are given, and in any order', () => {
    const one = parseRebase({ ...REQUEST, flags: ['COPY', 'SHALLOW', 'COPY', undefined] });
    expect(one).toEqual(parseRebase({ ...REQUEST, flags: ['SHALLOW', 'COPY'] }));
  });

  it('that nobody knows are refused', () => {
    expect(reasons({ flags: ['COPY', { unrecognized: 9 }] })).toEqual(['flags FIELD_INVALID']);
  });
});

describe('base', () => {
  it('must be given for a copy, and absolute; for a pull it may be missing, but not with RELATIVE', () => {
    expect(reasons({ base: '', flags: ['COPY'] })).toEqual(['base BASE_REQUIRED']);
    expect(reasons({ base: 'x', flags: ['COPY'] })).toEqual(['base PATH_NOT_ABSOLUTE']);
    expect(reasons({ base: '' })).toEqual([]);
    expect(reasons({ base: 'x' })).toEqual([]);
    expect(reasons({ base: '', flags: ['RELATIVE'] })).toEqual(['base BASE_REQUIRED']);
  });
});

describe('bandwidth', () => {
  const bytes = (bandwidth: bigint, ...flags: RebaseFlag[]) => {
    const spec = parseRebase({ ...REQUEST, bandwidth, flags });
    return (spec.does === 'copy' ? spec.copy : spec.pull).options.bandwidthBytesPerSecond;
  };

  it('is in MiB a second, or in bytes with BANDWIDTH_BYTES; 0 means no limit', () => {
    expect(bytes(3n)).toBe(3 * 1024 * 1024);
    expect(bytes(3n, 'BANDWIDTH_BYTES')).toBe(3);
    expect([bytes(0n), bytes(0n, 'COPY')]).toEqual([0, 0]);
  });

  it('goes up to 2^43-1 MiB or 2^63-1 bytes, is refused beyond, and never wraps or becomes none', () => {
    const tooMuch = ['bandwidth BANDWIDTH_OUT_OF_RANGE'];
    for (const flags of [[], ['COPY']] as const) {
      // Exact: libvirt shows the same number.
      expect(BigInt(bytes(2n ** 43n - 1n, ...flags))).toBe((2n ** 43n - 1n) * 2n ** 20n);
      expect(reasons({ bandwidth: 2n ** 43n, flags })).toEqual(tooMuch);
      expect(BigInt(bytes(2n ** 63n - 1n, ...flags, 'BANDWIDTH_BYTES'))).toBe(2n ** 63n - 1024n);
      expect(BigInt(bytes(2n ** 53n + 1n, ...flags, 'BANDWIDTH_BYTES'))).toBe(2n ** 53n);
      expect(reasons({ bandwidth: 2n ** 63n, flags: [...flags, 'BANDWIDTH_BYTES'] })).toEqual(tooMuch);
    }
  });
});

describe('all errors', () => {
  it('are reported at once', () => {
    const request = { disk: { domain: '', disk: '' }, base: 'x', bandwidth: 2n ** 64n - 1n, requestId: ' ' };
    expect(reasons({ ...request, flags: ['COPY', 'RELATIVE'], accept: [undefined] })).toEqual([
      'disk.domain FIELD_INVALID',
      'disk.disk FIELD_INVALID',
      'relative_backing RELATIVE_UNSUPPORTED',
      'base PATH_NOT_ABSOLUTE',
      'bandwidth BANDWIDTH_OUT_OF_RANGE',
      'request_id FIELD_INVALID',
      'accept FIELD_INVALID',
    ]);
  });
});
