import { describe, expect, it } from 'vitest';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { AbortRequest } from '../../../../src/core/requests.ts';
import { checkAbort } from '../../../../src/core/rules/change.ts';

const REQUEST: AbortRequest = {
  job: { jobId: 'bj1' },
  pivot: false,
  returnImmediately: false,
  force: false,
  pauseGuest: undefined,
  requestId: '',
};

function wrongWith(request: Partial<AbortRequest>): string[] {
  try {
    checkAbort({ ...REQUEST, ...request });
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return (error.failure.violations ?? []).map(({ field, reason }) => `${field} ${reason}`);
  }
  return [];
}

describe('an abort', () => {
  it.each<[string, Partial<AbortRequest>, readonly string[]]>([
    ['is fine as it is', {}, []],
    ['may be by force', { force: true }, []],
    ['may be asynchronous', { returnImmediately: true }, []],
    ['may pivot', { pivot: true, pauseGuest: 'ALWAYS' }, []],
    ['cannot pivot by force', { pivot: true, force: true }, ['force FLAGS_EXCLUSIVE']],
    ['may pause the guest for the end of a blocking copy, too', { pauseGuest: 'AUTO' }, []],
    ['may pivot with a record', { pivot: true, record: { token: 'x'.repeat(64) } }, []],
    ['may only record', { pivot: true, record: { token: 'x' }, recordOnly: true }, []],
    ['records nothing without a pivot', { record: { token: 'x' } }, ['record FIELD_INVALID']],
    ['has a record with a token', { pivot: true, record: { token: '' } }, ['record.token FIELD_INVALID']],
    ['has a token that a gate can have', { pivot: true, record: { token: 'x y' } }, ['record.token FIELD_INVALID']],
    ['has a short token', { pivot: true, record: { token: 'x'.repeat(65) } }, ['record.token FIELD_INVALID']],
    ['does not only record nothing', { pivot: true, recordOnly: true }, ['record_only FIELD_INVALID']],
    ['may have a request id', { requestId: `~!${'x'.repeat(126)}` }, []],
    ['has a request id that can be written down', { requestId: 'x'.repeat(129) }, ['request_id FIELD_INVALID']],
    ['knows its enum', { pivot: true, pauseGuest: { unrecognized: 9 } }, ['pause_guest FIELD_INVALID']],
    [
      'tells all that is wrong at once',
      { pivot: true, force: true, requestId: ' ' },
      ['force FLAGS_EXCLUSIVE', 'request_id FIELD_INVALID'],
    ],
  ])('%s', (_name, request, expected) => {
    expect(wrongWith(request)).toEqual(expected);
  });
});
