/**
 * Requests over the contract's whole value space: well formed with anything in each field, almost well formed, and
 * random bytes.
 */
/* oxlint-disable unicorn/no-useless-spread */
import * as fc from 'fast-check';
import {
  AbortRequest,
  BlockJobServiceClient,
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
  WatchJobsRequest,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import {
  CheckOperationRequest,
  DomainServiceClient,
  GetDomainRequest,
  ListDomainsRequest,
} from '../../../generated/blockjob/v1/domain_service.ts';
import { GetServerInfoRequest, ServerServiceClient } from '../../../generated/blockjob/v1/server_service.ts';

/** The codec of any message type. */
interface Codec {
  readonly fromPartial: (request: object) => object;
  readonly encode: (message: object) => { finish(): Uint8Array };
  readonly decode: (bytes: Uint8Array) => object;
}

const SERVICES = {
  blockJobs: BlockJobServiceClient.service,
  domains: DomainServiceClient.service,
  server: ServerServiceClient.service,
} as const;

export type Rpc =
  | keyof (typeof SERVICES)['blockJobs']
  | keyof (typeof SERVICES)['domains']
  | keyof (typeof SERVICES)['server'];

export const KINDS = ['well formed', 'nearly well formed', 'mere bytes'] as const;
export type Kind = (typeof KINDS)[number];

/** The machine that the requests are about. */
export interface Place {
  readonly name: string;
  readonly dir: string;
  /** Base first, top last. */
  readonly chain: readonly { readonly path: string }[];
}

export interface AnyRequest {
  readonly rpc: Rpc;
  readonly kind: Kind;
  readonly bytes: Uint8Array;
}

const STARTS: readonly Rpc[] = ['startCopy', 'rebase', 'commit'];
const OF_A_JOB: readonly Rpc[] = ['abort', 'setSpeed', 'pause', 'resume', 'getInfo', 'watchJob'];

export const RPCS: readonly Rpc[] = Object.values(SERVICES).flatMap((service) => Object.keys(service) as Rpc[]);

export function isStart({ rpc }: AnyRequest): boolean {
  return STARTS.includes(rpc);
}

interface Method {
  readonly client: keyof typeof SERVICES;
  readonly path: string;
  readonly responseStream: boolean;
  readonly responseDeserialize: (from: Buffer) => object;
}

/** The method of a request. */
export function methodOf(rpc: Rpc): Method {
  for (const [client, methods] of Object.entries(SERVICES)) {
    const found = Object.entries(methods).find(([name]) => name === rpc)?.[1];
    if (found === undefined) continue;
    const { path, responseStream, responseDeserialize } = found;
    return { client: client as keyof typeof SERVICES, path, responseStream, responseDeserialize };
  }
  throw new Error(`no service has ${rpc}`);
}

/** Any characters: fast-check's own `binary` makes a table of all of Unicode first, which takes seconds. */
const characters = fc.oneof(
  fc.string(),
  fc.array(fc.nat(0x10_ffff), { maxLength: 20 }).map((codes) => String.fromCodePoint(...codes)),
);

const text = (machine: Place) =>
  fc.oneof(
    characters,
    fc.constantFrom(
      ...['', '/', '.', '..', '/..', '\0', '\n', 'a\0b', '%s%n', '{}', 'json:{"driver":"null-co"}'],
      ...['nbd://127.0.0.1:1/x', '/dev/null', '/dev/zero', '/proc/self/mem', '/etc/passwd', '/etc/', '/tmp'],
      ...[`/${'x'.repeat(5000)}`, 'disk0', 'disk0[0]', 'disk0[1]', 'disk0[99999999999]', 'QFI\u00FB', '\uFEFF', '😀'],
      ...[machine.name, ...machine.chain.map(({ path }) => path), `${machine.dir}/dst`],
      ...['new', 'new2', '../x', 'there', 'there/x', 'fifo', 'link', '../../../etc/x'].map(
        (name) => `${machine.dir}/dst/${name}`,
      ),
    ),
  );
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const int64 = fc.oneof(
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.constantFrom(0n, 1n, 511n, 512n, 4096n, 2n ** 31n, 2n ** 53n, 2n ** 63n - 1n, -1n, -(2n ** 63n)),
);
const anEnum = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const aFewOf = (...values: readonly number[]) => fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...values) }, anEnum);
const flag = fc.oneof(fc.constantFrom(0, 1, 2, 4, 8, 16, 32, 64), anEnum);
const afterRevision = maybe(fc.oneof(fc.bigInt(0n, 8n), int64));
const duration = fc.record({
  seconds: fc.oneof(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.constantFrom(0n, 1n, 60n)),
  nanos: fc.oneof(fc.constant(0), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
});
const seldom = fc.oneof({ weight: 7, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) });

/** Some random fields, and the other fields of a valid request: otherwise hardly any would get far. */
function mostly<T extends object>(right: Partial<T>, any: fc.Arbitrary<T>): fc.Arbitrary<object> {
  // Most have too many to begin a job, which costs a hundred times as much as a refusal.
  const picks = fc.oneof(
    { weight: 1, arbitrary: fc.array(fc.nat(), { maxLength: 2 }) },
    { weight: 3, arbitrary: fc.array(fc.nat(), { minLength: 3, maxLength: 7 }) },
  );
  return fc.tuple(any, fc.boolean(), picks).map(([request, isAll, picked]) => {
    const fields = Object.entries(request);
    const some = picked.flatMap((pick) => fields.slice(pick % fields.length, (pick % fields.length) + 1));
    return isAll ? request : { ...right, ...Object.fromEntries(some) };
  });
}

/** The requests of each RPC: mostly of a shape that gets far, and with anything in each field. */
function arbitraries(machine: Place): Readonly<Record<Rpc, readonly [Codec, fc.Arbitrary<object>]>> {
  const any = text(machine);
  const right = { domain: machine.name, disk: 'disk0' };
  const domain = fc.oneof(fc.constant(machine.name), any);
  const disk = maybe(fc.oneof(fc.constant(right), fc.record({ domain: any, disk: any })));
  const ofDisk = { $case: 'disk', value: right } as const;
  const name = maybe(
    fc.oneof(
      fc.constant(ofDisk),
      any.map((value) => ({ $case: 'jobId', value }) as const),
      fc.record({ domain: any, disk: any }).map((value) => ({ $case: 'disk', value }) as const),
    ),
  );
  const job = fc.oneof(fc.constant({ name: ofDisk }), maybe(fc.record({ name })));
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
      format: aFewOf(0, 1, 2),
      encryption: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, fc.record({ secretId: any })),
    }),
  );
  const start = {
    disk,
    requestId: fc.oneof({ weight: 9, arbitrary: fc.constant('') }, any),
    validateOnly: seldom,
    planEtag: fc.oneof({ weight: 9, arbitrary: fc.constant('') }, any),
    accept: fc.array(aFewOf(1, 2, 3), { maxLength: 4 }),
  };
  const flags = fc.array(flag, { maxLength: 8 });
  const copy = fc.record({
    ...start,
    destination,
    shallow: fc.boolean(),
    reuseExternal: fc.boolean(),
    relativeBacking: fc.boolean(),
    verifyReused: fc.boolean(),
    bandwidthBytesPerSecond: int64,
    granularityBytes: int64,
    bufferBytes: int64,
    writeMode: aFewOf(0, 1, 2),
    onReady: aFewOf(0, 1, 3),
    onNoSpace: aFewOf(0, 1, 2),
    timeLimit: maybe(duration),
    pauseGuest: aFewOf(0, 1, 2, 3),
    endPolicy: maybe(
      fc.record({
        patience: maybe(duration),
        bandwidthCeilingBytesPerSecond: int64,
        switchToBlocking: fc.boolean(),
        chooseGranularity: fc.boolean(),
        atDeadline: aFewOf(0, 1, 2, 3),
        maxGuestPause: maybe(duration),
      }),
    ),
  });
  const target = { $case: 'file', value: `${machine.dir}/dst/new` } as const;
  const page = {
    pageSize: fc.oneof(fc.constantFrom(0, 1, 10), fc.integer()),
    pageToken: fc.oneof(fc.constant(''), any),
  };
  const requestId = start.requestId;
  const abort = {
    job,
    pivot: seldom,
    returnImmediately: fc.boolean(),
    force: fc.boolean(),
    pauseGuest: aFewOf(0, 1, 2, 3),
  };
  const leftover = fc
    .tuple(fc.constantFrom('file:', 'node:', 'job:'), any)
    .map(([kind, rest]) => `${kind}bj0123456789abcdef${rest}`);
  const rows = {
    startCopy: [
      StartCopyRequest,
      mostly({ disk: right, destination: { target, format: 0, encryption: undefined } }, copy),
    ],
    rebase: [
      RebaseRequest,
      mostly(
        { disk: right, base: target.value, flags: [8] },
        fc.record({ ...start, base: any, flags, bandwidth: int64 }),
      ),
    ],
    commit: [
      CommitRequest,
      mostly({ disk: right, flags: [4] }, fc.record({ ...start, base: any, top: any, flags, bandwidth: int64 })),
    ],
    abort: [AbortRequest, fc.record({ ...abort, requestId })],
    setSpeed: [SetSpeedRequest, fc.record({ job, bandwidthBytesPerSecond: int64, requestId })],
    pause: [PauseRequest, fc.record({ job, requestId })],
    resume: [ResumeRequest, fc.record({ job, requestId })],
    getInfo: [GetInfoRequest, fc.record({ job })],
    listJobs: [
      ListJobsRequest,
      fc.record({ domain: fc.oneof(domain, fc.constant('')), stateFilter: fc.array(aFewOf(1, 4, 6)), ...page }),
    ],
    listLeftovers: [ListLeftoversRequest, fc.record({ domain: fc.oneof(domain, fc.constant('')), ...page })],
    reclaim: [
      ReclaimRequest,
      fc.record({
        leftoverIds: fc.oneof(fc.array(leftover, { minLength: 1 }), fc.array(any)),
        apply: fc.boolean(),
        requestId,
      }),
    ],
    watchJob: [WatchJobRequest, fc.record({ job, afterRevision, progressInterval: maybe(duration) })],
    watchJobs: [
      WatchJobsRequest,
      fc.record({ domain: maybe(domain), resumeToken: maybe(any), progressInterval: maybe(duration) }),
    ],
    listDomains: [ListDomainsRequest, fc.record({ host: fc.oneof(fc.constant(''), any), ...page })],
    getDomain: [GetDomainRequest, fc.record({ domain })],
    checkOperation: [
      CheckOperationRequest,
      fc.record({ domain, disk: maybe(fc.oneof(fc.constant('disk0'), any)), operation: aFewOf(1, 2, 3, 4, 5, 6) }),
    ],
    getServerInfo: [GetServerInfoRequest, fc.constant({})],
  };
  return rows as unknown as Readonly<Record<Rpc, readonly [Codec, fc.Arbitrary<object>]>>;
}

/** A changed byte, or an early end. */
const harm = fc.record({ at: fc.nat(), becomes: fc.option(fc.nat(255), { nil: undefined }) });

function harmed(bytes: Uint8Array, { at, becomes }: { readonly at: number; readonly becomes: number | undefined }) {
  if (bytes.length === 0) return bytes;
  const place = at % bytes.length;
  return becomes === undefined ? bytes.subarray(0, place) : bytes.with(place, becomes);
}

/** Requests about this machine, and their meaning in the contract. */
export class AnyRequests {
  readonly #machine: Place;
  readonly #arbitraries: ReturnType<typeof arbitraries>;

  constructor(machine: Place) {
    this.#machine = machine;
    this.#arbitraries = arbitraries(machine);
  }

  /** The given number, or one or two more: the same number of each RPC and kind, mixed. */
  some(count: number, seed: number): AnyRequest[] {
    const each = Math.ceil(count / RPCS.length / KINDS.length);
    const rows = RPCS.flatMap((rpc, index) => this.#of(rpc, each, seed + index));
    // Those of one RPC are similar: all are mixed with each other.
    return rows
      .map((row, index) => ({ row, place: index % each }))
      .toSorted((a, b) => a.place - b.place)
      .map(({ row }) => row);
  }

  #of(rpc: Rpc, numRuns: number, seed: number): AnyRequest[] {
    const [{ fromPartial, encode }, arbitrary] = this.#arbitraries[rpc];
    const well = arbitrary.map((request) => encode(fromPartial(request)).finish());
    const kinds: readonly (readonly [Kind, fc.Arbitrary<Uint8Array>])[] = [
      ['well formed', well],
      ['nearly well formed', fc.tuple(well, harm).map(([bytes, how]) => harmed(bytes, how))],
      ['mere bytes', fc.uint8Array({ minLength: 1, maxLength: 200 })],
    ];
    return kinds.flatMap(([kind, bytes]) =>
      fc.sample(bytes, { numRuns, seed }).map((found) => ({ rpc, kind, bytes: found })),
    );
  }

  /** The request as the service reads it; undefined for bytes that are not a message. */
  read({ rpc, bytes }: AnyRequest): object | undefined {
    try {
      return this.#arbitraries[rpc][0].decode(bytes);
    } catch {
      return undefined;
    }
  }

  /** A start of this machine's disk, and a request about the job that runs on it. */
  isOfDisk(request: AnyRequest): boolean {
    const read = this.read(request);
    if (read === undefined) return false;
    const { name: domain } = this.#machine;
    if (isStart(request)) return 'disk' in read && isOf(read.disk, domain);
    if (!OF_A_JOB.includes(request.rpc) || !('job' in read)) return false;
    const { name } = (read.job ?? {}) as { readonly name?: { readonly value: unknown } };
    return isOf(name?.value, domain);
  }
}

function isOf(disk: unknown, domain: string): boolean {
  return typeof disk === 'object' && disk !== null && 'domain' in disk && disk.domain === domain;
}
