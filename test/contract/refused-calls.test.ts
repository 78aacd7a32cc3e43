/** Refused calls do not fill the log. */
import { Metadata, type ServerUnaryCall } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { fail } from '../../src/core/errors.ts';
import { OpenCalls } from '../../src/grpc/open-calls.ts';
import { Refusals } from '../../src/grpc/refusals.ts';
import { unary } from '../../src/grpc/unary.ts';
import { NOBODY } from '../../src/lib/observer.ts';
import { logInto } from '../../src/modes/log.ts';
import { eventually } from '../support/checks.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { refusalOf } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';
import { callRaw } from '../support/service/stub-server.ts';

/** A character that takes six bytes in JSON. */
const FIELD = '\u0001'.repeat(60_000);
const REQUEST = StartCopyRequest.fromPartial({
  disk: { domain: 'vm1', disk: FIELD },
  destination: { target: { $case: 'file', value: `/${FIELD}` } },
});

/** The number of calls that the log reports: as lines, and as counted. */
function told(log: string): number {
  const more = [...log.matchAll(/"more":(\d+),.*audit: more were refused/g)].map(([, n]) => Number(n));
  const lines = log.match(/audit: StartCopy refused/g)?.length ?? 0;
  return lines + more.reduce((sum, n) => sum + n, 0);
}

test('10,000 refused calls with fields of 60 KB: the log grows by less than 100 bytes for each', async () => {
  const lines: string[] = [];
  const log = logInto({ write: (line) => void lines.push(line) }, { level: 'info' });
  using refusals = new Refusals(log);
  const handler = unary<StartCopyRequest, never>(
    {
      log,
      refusals,
      observer: NOBODY,
      info: { host: 'host1', version: '0.1.0' },
      gateways: new Set(),
      onlyGateways: false,
      streams: new OpenCalls(),
      calls: new OpenCalls(),
    },
    'StartCopy',
    async () => await Promise.resolve(fail('DISK_NOT_FOUND', { domain: 'vm1', disk: FIELD })),
    ({ disk, destination }) => ({ ...disk, destination: destination?.target?.value }),
  );
  const call = {
    request: REQUEST,
    metadata: new Metadata(),
    getAuthContext: () => ({}),
    getDeadline: () => Number.POSITIVE_INFINITY,
    getPeer: () => '127.0.0.1:1234',
    once: () => undefined,
  } as unknown as ServerUnaryCall<StartCopyRequest, never>;
  const bytes = () => lines.join('').length;
  for (let n = 0; n < 10; n += 1) await new Promise((resolve) => handler(call, resolve));
  // A line has a limit, too.
  const before = bytes();
  expect(before / 10).toBeLessThan(32_768);
  for (let n = 0; n < 10_000; n += 1) await new Promise((resolve) => handler(call, resolve));
  refusals[Symbol.dispose]();
  expect((bytes() - before) / 10_000).toBeLessThan(100);
  expect(told(lines.join(''))).toBe(10_010);
});

test('a service that refuses many calls reports each of them, in few lines', async () => {
  await using dir = await testDir();
  await using service = await Service.start({ dir: dir.path, qmp: { vm1: `${dir.path}/nowhere.sock` }, allow: [] });
  const request = StartCopyRequest.encode(REQUEST).finish();
  const path = '/blockjob.v1.BlockJobService/StartCopy';
  const call = async () =>
    await callRaw(service.blockJobs, path, Buffer.from(request)).then(() => undefined, refusalOf);
  const before = service.log.length;
  const calls = 100;
  for (let n = 0; n < calls; n += 1) expect((await call())?.reason).not.toBe('BUG');
  expect(await service.stop()).toBe(0);
  await eventually(
    'the last line',
    async () => await Promise.resolve(service.log.includes('All calls have ended') || undefined),
  );
  expect(service.log.length - before).toBeLessThan(20 * 32_768);
  expect(told(service.log)).toBe(calls);
});
