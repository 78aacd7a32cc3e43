/** The rules of Commit that need nothing but the request. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { CommitFlag, CommitRequest } from '../../../../src/core/requests.ts';
import { parseCommit } from '../../../../src/core/rules/commit.ts';

const REQUEST: CommitRequest = {
  disk: { domain: 'vm1', disk: 'vd0' },
  base: '',
  top: '',
  flags: [],
  bandwidth: 0n,
  requestId: '',
  validateOnly: false,
  planEtag: '',
  accept: [],
};
const FLAGS: readonly CommitFlag[] = ['SHALLOW', 'DELETE', 'ACTIVE', 'RELATIVE', 'BANDWIDTH_BYTES'];

function reasons(request: Partial<CommitRequest>): readonly string[] {
  try {
    parseCommit({ ...REQUEST, ...request });
    return [];
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return (error.failure.violations ?? []).map(({ field, reason }) => `${field} ${reason}`);
  }
}

describe('a commit as understood', () => {
  it.each(Array.from({ length: 32 }, (_, bits) => FLAGS.filter((_flag, bit) => (bits & (1 << bit)) !== 0)))(
    'each flag means one thing: %s %s %s %s %s',
    (...flags) => {
      const has = (flag: CommitFlag) => flags.includes(flag);
      expect(parseCommit({ ...REQUEST, base: 'b', top: 't', bandwidth: 2n, flags })).toMatchObject({
        base: 'b',
        top: 't',
        shallow: has('SHALLOW'),
        active: has('ACTIVE'),
        options: {
          deleteCommitted: has('DELETE'),
          relativeBacking: has('RELATIVE'),
          bandwidthBytesPerSecond: has('BANDWIDTH_BYTES') ? 2 : 2 * 1024 * 1024,
        },
      });
    },
  );

  it('a flag that is repeated counts once', () => {
    const twice = parseCommit({ ...REQUEST, flags: ['SHALLOW', 'ACTIVE', 'SHALLOW', undefined] });
    expect(twice).toEqual(parseCommit({ ...REQUEST, flags: ['ACTIVE', 'SHALLOW'] }));
  });

  it('errors are reported at once', () => {
    expect(reasons({})).toEqual([]);
    expect(
      reasons({
        disk: { domain: '', disk: 'x' },
        flags: [{ unrecognized: 3 }],
        bandwidth: 2n ** 43n,
        requestId: ' ',
        accept: [{ unrecognized: 9 }],
      }),
    ).toEqual([
      'disk.domain FIELD_INVALID',
      'flags FIELD_INVALID',
      'bandwidth BANDWIDTH_OUT_OF_RANGE',
      'request_id FIELD_INVALID',
      'accept FIELD_INVALID',
    ]);
  });
});
