/**
 * Any request whatever, over the contract's whole value space, has a typed answer: never a bug, a crash or a hang, and
 * never anything left behind. A failure prints the seed and the smallest request that shows it.
 */
/* oxlint-disable vitest/no-conditional-expect, unicorn/no-useless-spread */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AbortRequest,
  CommitRequest,
  GetInfoRequest,
  ListJobsRequest,
  ListLeftoversRequest,
  PauseRequest,
  RebaseRequest,
  ReclaimRequest,
  ResumeRequest,
  SetSpeedRequest,
  StartCopyRequest,
  WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  CheckOperationRequest,
  GetDomainRequest,
  ListDomainsRequest,
} from '../../generated/blockjob/v1/domain_service.ts';
import { catalogue } from '../../src/core/catalogue.ts';
import { type Machine, MIB, Site } from '../support/bench-qemu.ts';
import { byId, refusalOf } from '../support/caller.ts';
import { graphOf, hashOf, listing } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/qemu.ts';

/** Of an answer; a start that has begun a job says which. */
interface Answer {
  readonly job?: { readonly id: string } | undefined;
}

/** Any message type's, whichever it is. */
interface Codec {
  readonly fromPartial: (request: object) => object;
  readonly encode: (message: object) => { finish(): Uint8Array };
}

const text = (machine: Machine) =>
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      ...[
        '',
        '/',
        '.',
        '..',
        '/..',
        '\0',
        '\n',
        'a\0b',
        '%s%n',
        '{}',
        'json:{"driver":"null-co"}',
        'nbd://127.0.0.1:1/x',
      ],
      ...['/dev/null', '/dev/zero', '/proc/self/mem', '/etc/passwd', '/etc/', '/tmp', `/${'x'.repeat(5000)}`],
      ...[machine.disk.domain, 'disk0', 'disk0[0]', 'disk0[1]', 'disk0[99999999999]', 'QFI\u00FB', '\uFEFF', '😀'],
      machine.top.path,
      `${machine.dir}/dst/new`,
      `${machine.dir}/dst/new2`,
      `${machine.dir}/dst`,
      `${machine.dir}/dst/../../x`,
      `${machine.dir}/dst/there`,
    ),
  );
const uint64 = fc.oneof(
  fc.bigInt(0n, 2n ** 64n - 1n),
  fc.constantFrom(0n, 1n, 511n, 512n, 4096n, 2n ** 31n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n),
);
const anEnum = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const flag = fc.oneof(fc.constantFrom(0, 1, 2, 4, 8, 16, 32, 64), anEnum);
const duration = fc.record({
  seconds: fc.oneof(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.constantFrom(0n, 1n, 60n)),
  nanos: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
});
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

/** Some fields of any request whatever, and the others of one that is right: else hardly any would get far. */
function mostly<T extends object>(right: Partial<T>, any: fc.Arbitrary<T>): fc.Arbitrary<object> {
  return fc.tuple(any, fc.boolean(), fc.array(fc.nat(), { maxLength: 3 })).map(([request, isAll, picks]) => {
    const fields = Object.entries(request);
    const picked = picks.flatMap((pick) => fields.slice(pick % fields.length, (pick % fields.length) + 1));
    return isAll ? request : { ...right, ...Object.fromEntries(picked) };
  });
}

/** Requests by RPC: mostly of a shape that gets far, and with anything in each field. */
function requests(machine: Machine) {
  const any = text(machine);
  const disk = maybe(fc.oneof(fc.constant(machine.disk), fc.record({ domain: any, disk: any })));
  const job = maybe(
    fc.record({
      ref: maybe(
        fc.oneof(
          any.map((value) => ({ $case: 'jobId', value }) as const),
          fc.constant({ $case: 'disk', value: machine.disk } as const),
          fc.record({ domain: any, disk: any }).map((value) => ({ $case: 'disk', value }) as const),
        ),
      ),
    }),
  );
  const server = maybe(
    fc.oneof(
      any.map((value) => ({ $case: 'unixSocket', value }) as const),
      fc.record({ host: any, port: fc.nat() }).map((value) => ({ $case: 'tcp', value }) as const),
    ),
  );
  const nbd = fc.record({ server, exportName: any, tlsCredentialsId: any, tlsHostname: any });
  const destination = maybe(
    fc.record({
      target: maybe(
        fc.oneof(
          any.map((value) => ({ $case: 'file', value }) as const),
          any.map((value) => ({ $case: 'blockDevice', value }) as const),
          nbd.map((value) => ({ $case: 'nbd', value }) as const),
        ),
      ),
      format: anEnum,
    }),
  );
  const start = {
    disk,
    requestId: fc.oneof({ weight: 9, arbitrary: fc.constant('') }, any),
    validateOnly: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.boolean()),
    planEtag: fc.oneof({ weight: 9, arbitrary: fc.constant('') }, any),
  };
  const flags = fc.array(flag, { maxLength: 8 });
  const copy = fc.record({
    ...start,
    destination,
    shallow: fc.boolean(),
    reuseExternal: fc.boolean(),
    relativeBacking: fc.boolean(),
    verifyReused: fc.boolean(),
    bandwidthBytesPerSecond: uint64,
    granularityBytes: uint64,
    bufferBytes: uint64,
    writeMode: anEnum,
    onReady: anEnum,
    onNoSpace: anEnum,
    timeLimit: maybe(duration),
    pauseGuest: anEnum,
  });
  const page = { pageSize: fc.integer(), pageToken: any };
  return {
    startCopy: [
      StartCopyRequest,
      mostly(
        { disk: machine.disk, destination: { target: { $case: 'file', value: `${machine.dir}/dst/new` }, format: 0 } },
        copy,
      ),
    ],
    rebase: [
      RebaseRequest,
      mostly(
        { disk: machine.disk, base: `${machine.dir}/dst/new`, flags: [8] },
        fc.record({ ...start, base: any, flags, bandwidth: uint64 }),
      ),
    ],
    commit: [
      CommitRequest,
      mostly(
        { disk: machine.disk, flags: [4] },
        fc.record({ ...start, base: any, top: any, flags, bandwidth: uint64 }),
      ),
    ],
    abort: [
      AbortRequest,
      fc.record({
        job,
        pivot: fc.boolean(),
        async: fc.boolean(),
        force: fc.boolean(),
        pauseGuest: anEnum,
        requestId: any,
      }),
    ],
    setSpeed: [SetSpeedRequest, fc.record({ job, bandwidthBytesPerSecond: uint64, requestId: any })],
    pause: [PauseRequest, fc.record({ job, requestId: any })],
    resume: [ResumeRequest, fc.record({ job, requestId: any })],
    getInfo: [GetInfoRequest, fc.record({ job })],
    listJobs: [ListJobsRequest, fc.record({ domain: any, stateFilter: fc.array(anEnum), ...page })],
    listLeftovers: [ListLeftoversRequest, fc.record({ domain: any, ...page })],
    reclaim: [ReclaimRequest, fc.record({ leftoverIds: fc.array(any), apply: fc.boolean(), requestId: any })],
    watchJob: [WatchJobRequest, fc.record({ job, afterRevision: maybe(uint64), progressInterval: maybe(duration) })],
    listDomains: [ListDomainsRequest, fc.record({ host: any, ...page })],
    getDomain: [GetDomainRequest, fc.record({ domain: any })],
    checkOperation: [CheckOperationRequest, fc.record({ domain: any, disk: maybe(any), operation: anEnum })],
  } as const;
}

type Rpc = keyof ReturnType<typeof requests>;
const RPCS = [
  ...(['startCopy', 'rebase', 'commit', 'abort', 'setSpeed', 'pause', 'resume', 'getInfo', 'listJobs'] as const),
  ...(['listLeftovers', 'reclaim', 'watchJob', 'listDomains', 'getDomain', 'checkOperation'] as const),
] satisfies readonly Rpc[];
/** Those that may find a QEMU to work on are worth more tries. */
const RUNS: Partial<Record<Rpc, number>> = { startCopy: 400, rebase: 400, commit: 200 };
/** `make fuzz`: so many requests in all, a third of each of the three kinds; of the seed that is given. */
const EACH = Math.ceil(Number(process.env['FUZZ_REQUESTS'] ?? 0) / 3 / RPCS.length);
const SEED = process.env['FUZZ_SEED'];
const DAY_MS = 86_400_000;

/** How often something is tried, and for how long. */
const tries = (numRuns: number) => ({
  numRuns: EACH === 0 ? numRuns : EACH,
  endOnFailure: false,
  ...(EACH === 0 ? { interruptAfterTimeLimit: 60_000 } : {}),
  ...(SEED === undefined ? {} : { seed: Number(SEED) }),
});

/** A byte that is another one, or an end that comes too early. */
const harm = fc.record({ at: fc.nat(), becomes: fc.option(fc.nat(255), { nil: undefined }) });

function harmed(bytes: Uint8Array, { at, becomes }: { readonly at: number; readonly becomes: number | undefined }) {
  const place = at % bytes.length;
  return becomes === undefined ? bytes.subarray(0, place) : bytes.with(place, becomes);
}

describe.skipIf(needs('qemu'))('any request', { timeout: EACH === 0 ? 120_000 : DAY_MS }, () => {
  let site: Site;
  let machine: Machine;
  let before: unknown;
  beforeAll(async () => {
    site = await Site.open();
    machine = await site.machine({ sizeBytes: MIB });
    await mkdir(join(machine.dir, 'dst'));
    await writeFile(join(machine.dir, 'dst', 'there'), 'precious');
    before = await state();
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
    await site?.[Symbol.asyncDispose]();
  });

  /** All but the active image, which a pull or a commit may well have changed, and its chain with it. */
  async function state(): Promise<unknown> {
    const { qemu, dir } = machine;
    const jobs = (await graphOf(qemu.admin)).jobs;
    const names = (await listing(join(dir, 'dst'))).map((line) => line.split(' ')[0]);
    return [names, await hashOf(join(dir, 'dst', 'there')), jobs, await hashOf('/etc/passwd')];
  }

  /** What the service answers to these bytes. */
  async function ask(rpc: Rpc, bytes: Uint8Array): Promise<Answer | ReturnType<typeof refusalOf>> {
    const isDomain = rpc === 'listDomains' || rpc === 'getDomain' || rpc === 'checkOperation';
    const client: Client = isDomain ? site.service.domains : site.service.blockJobs;
    const { path, responseDeserialize } = (isDomain ? site.service.domains : site.service.blockJobs).constructor[
      'service' as never
    ][rpc as never] as { path: string; responseDeserialize: (from: Buffer) => Answer };
    const serialize = () => Buffer.from(bytes);
    if (rpc === 'watchJob') {
      const stream = client.makeServerStreamRequest(path, serialize, responseDeserialize, {}, new Metadata());
      return await new Promise((resolve) => {
        stream.on('data', () => {
          resolve({});
          stream.cancel();
        });
        stream.on('error', (error: ServiceError) => resolve(refusalOf(error)));
        stream.on('end', () => resolve({}));
      });
    }
    return await new Promise((resolve) => {
      client.makeUnaryRequest(path, serialize, responseDeserialize, {}, new Metadata(), (error, response) => {
        resolve(error === null ? (response ?? {}) : refusalOf(error));
      });
    });
  }

  async function answered(rpc: Rpc, bytes: Uint8Array): Promise<void> {
    const answer = await within(20_000, `an answer to ${rpc}`, ask(rpc, bytes));
    if ('reason' in answer) {
      expect(answer.domain).toBe('blockjob');
      expect(Object.keys(catalogue)).toContain(answer.reason);
      expect(answer.reason).not.toBe('BUG');
      return;
    }
    if (answer.job === undefined || !['startCopy', 'rebase', 'commit'].includes(rpc)) return;
    const { id } = answer.job;
    await site.service.abort({ job: byId(id) }).catch((error: unknown) => {
      // It may have ended by itself, as a pull does.
      expect(refusalOf(error).reason).toBe('JOB_ENDED');
    });
    const { target } = (await site.service.getInfo(id)).destination ?? {};
    // A complete copy stays, as it should; so that the next request finds all as this one did, it goes.
    if (target?.$case === 'file' && !target.value.endsWith('/there')) {
      await rm(target.value, { force: true });
    }
  }

  test.each(RPCS)('%s: a typed answer, and nothing left', async (rpc) => {
    const [type, arbitrary] = requests(machine)[rpc];
    const { fromPartial, encode }: Codec = type as unknown as Codec;
    await fc.assert(
      fc.asyncProperty(arbitrary as fc.Arbitrary<object>, async (request) => {
        await answered(rpc, encode(fromPartial(request)).finish());
      }),
      tries(RUNS[rpc] ?? 150),
    );
    expect(await state()).toEqual(before);
  });

  test.each(RPCS)('%s: bytes that are no message', async (rpc) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
        await answered(rpc, bytes);
      }),
      tries(40),
    );
    expect(await state()).toEqual(before);
  });

  test.each(RPCS)('%s: bytes that are nearly a message', async (rpc) => {
    const [type, arbitrary] = requests(machine)[rpc];
    const { fromPartial, encode }: Codec = type as unknown as Codec;
    await fc.assert(
      fc.asyncProperty(arbitrary as fc.Arbitrary<object>, harm, async (request, how) => {
        const bytes = encode(fromPartial(request)).finish();
        await answered(rpc, bytes.length === 0 ? bytes : harmed(bytes, how));
      }),
      tries(60),
    );
    expect(await state()).toEqual(before);
  });
});
