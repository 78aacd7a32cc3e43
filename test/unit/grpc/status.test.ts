import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { BadRequest, ErrorInfo } from '../../../generated/google/rpc/error_details.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import { catalogue, type Reason } from '../../../src/core/catalogue.ts';
import { failure, violation } from '../../../src/core/errors.ts';
import { answerTo, statusOf } from '../../../src/grpc/status.ts';

const SECRET = '/state/jobs/of-somebody-else';
const QUIET = pino({ level: 'silent' });

/** An error of the kernel, as node:fs throws it. */
function refusal(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}: no, ${syscall} '${SECRET}'`), { code, syscall, path: SECRET });
}

function told(error: unknown) {
  const { details, metadata } = answerTo(error, QUIET);
  const [encoded = Buffer.alloc(0)] = metadata.get('grpc-status-details-bin');
  const rich = Status.decode(Buffer.from(encoded));
  const [info] = rich.details;
  return { details, raw: Buffer.from(encoded).toString('latin1'), info: ErrorInfo.decode(info?.value ?? Buffer.of()) };
}

describe('an error of the kernel that no code has caught', () => {
  it.each([
    ['EIO', 'lstat', 'STORAGE_FAILED'],
    ['EPROTO', 'lstat', 'STORAGE_FAILED'],
    ['EACCES', 'open', 'ACCESS_DENIED'],
    ['ENOSPC', 'write', 'NO_SPACE'],
    ['EFBIG', 'ftruncate', 'FILE_TOO_LARGE'],
    ['EMFILE', 'open', 'LIMIT_REACHED'],
  ])('%s of %s is %s of a file that is not named', (code, syscall, reason) => {
    const { details, raw, info } = told(refusal(code, syscall));
    expect(details).toMatch(new RegExp(`^${reason}: .*a file that this answer may not name\\b.*${code}`));
    expect(details).not.toContain('?');
    expect([info.reason, info.metadata]).toEqual([reason, {}]);
    expect(raw).not.toContain(SECRET);
  });
});

describe('google.rpc.BadRequest', () => {
  it('has the first ten of the fields that are wrong', () => {
    const violations = Array.from({ length: 12 }, (_, at) =>
      violation(`field${at}`, 'FIELD_INVALID', { field: `field${at}`, problem: 'is wrong' }),
    );
    const { details } = statusOf({ ...failure('FIELD_INVALID', { field: 'field0', problem: 'is wrong' }), violations });
    const detail = details.find(({ typeUrl }) => typeUrl.endsWith('.BadRequest'));
    const { fieldViolations } = BadRequest.decode(detail?.value ?? Buffer.alloc(0));
    expect(fieldViolations.map(({ field }) => field)).toEqual(violations.slice(0, 10).map(({ field }) => field));
  });
});

describe('google.rpc.RetryInfo', () => {
  const helps = ['TOO_MANY_CALLS', 'TOO_MANY_JOBS', 'TOO_MANY_WATCHERS', 'TOO_MANY_WATCHES'];
  it('is in each UNAVAILABLE, and in each RESOURCE_EXHAUSTED where waiting helps, and in no other', () => {
    const reasons = Object.keys(catalogue) as Reason[];
    const withRetry = reasons.filter((reason) =>
      statusOf({ reason, text: '', metadata: {} }).details.some(({ typeUrl }) => typeUrl.endsWith('.RetryInfo')),
    );
    const wanted = reasons.filter((one) => catalogue[one].code === 'UNAVAILABLE' || helps.includes(one));
    expect(withRetry).toEqual(wanted);
    expect(wanted.length).toBeGreaterThan(helps.length);
  });
});
