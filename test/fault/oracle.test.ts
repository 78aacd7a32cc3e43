/**
 * A caller that may not read an object gets the same answer as if the object did not exist: for each call, and each way
 * to name an object, byte for byte the same except for the caller's own words, after the same questions to QEMU, to
 * files and to agents.
 */
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortRequest,
  BlockJobServiceService,
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
  type WatchJobsResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  CheckOperationRequest,
  DomainServiceService,
  GetDomainRequest,
  ListDomainsRequest,
  Operation,
} from '../../generated/blockjob/v1/domain_service.ts';
import type { Caller } from '../support/service/caller.ts';
import { identity } from '../support/service/stub-server.ts';
import { GUARDED_WAYS, Tenants, UUIDS } from '../support/service/tenants.ts';

type Rpc = keyof typeof BlockJobServiceService | keyof typeof DomainServiceService;
/** The words of the caller: one for an existing object, and one of the same length for a missing one. */
type Words = Readonly<Record<'name' | 'uuid' | 'running' | 'ended' | 'requestId', string>>;

const SERVICES = { ...BlockJobServiceService, ...DomainServiceService };
const disk = (domain: string) => ({ domain, disk: 'vd0' });
const onDisk = (domain: string) => ({ name: { $case: 'disk' as const, value: disk(domain) } });
const byId = (job: string) => ({ name: { $case: 'jobId' as const, value: job } });
const FILE = { target: { $case: 'file' as const, value: '/nowhere/copy' } };

/** The ways to name a domain, or a disk. */
const DOMAINS: readonly (readonly [string, (words: Words) => string])[] = [
  ['by name', ({ name }) => name],
  ['by UUID', ({ uuid }) => uuid],
  ['by UUID in capitals', ({ uuid }) => uuid.toUpperCase()],
];
const JOBS = [
  ['by id, running', ({ running }: Words) => byId(running)],
  ['by id, ended', ({ ended }: Words) => byId(ended)],
  ...DOMAINS.map(([how, domain]) => [`by disk, ${how}`, (words: Words) => onDisk(domain(words))] as const),
] as const;
const tokenOf = (list: string, place: string) => encodeURIComponent(`${list} ${place}`);

type Question = readonly [rpc: Rpc, how: string, message: (words: Words) => Uint8Array];

const onDomains = (rpc: Rpc, message: (domain: string, words: Words) => Uint8Array) =>
  DOMAINS.map(([how, domain]): Question => [rpc, how, (words) => message(domain(words), words)]);
const onJobs = (rpc: Rpc, message: (job: ReturnType<typeof byId | typeof onDisk>) => Uint8Array) =>
  JOBS.map(([how, job]): Question => [rpc, how, (words) => message(job(words))]);

const QUESTIONS: readonly Question[] = [
  ...onDomains('startCopy', (domain) =>
    StartCopyRequest.encode(StartCopyRequest.fromPartial({ disk: disk(domain), destination: FILE })).finish(),
  ),
  ...onDomains('startCopy', (domain) =>
    StartCopyRequest.encode(
      StartCopyRequest.fromPartial({ disk: disk(domain), destination: FILE, validateOnly: true }),
    ).finish(),
  ),
  ...onDomains('rebase', (domain) => RebaseRequest.encode(RebaseRequest.fromPartial({ disk: disk(domain) })).finish()),
  ...onDomains('commit', (domain) =>
    CommitRequest.encode(CommitRequest.fromPartial({ disk: disk(domain), top: '/x' })).finish(),
  ),
  ...onJobs('getInfo', (job) => GetInfoRequest.encode(GetInfoRequest.fromPartial({ job })).finish()),
  ...onJobs('abort', (job) => AbortRequest.encode(AbortRequest.fromPartial({ job })).finish()),
  ...onJobs('abort', (job) => AbortRequest.encode(AbortRequest.fromPartial({ job, pivot: true })).finish()),
  ...onJobs('setSpeed', (job) => SetSpeedRequest.encode(SetSpeedRequest.fromPartial({ job })).finish()),
  ...onJobs('pause', (job) => PauseRequest.encode(PauseRequest.fromPartial({ job })).finish()),
  ...onJobs('resume', (job) => ResumeRequest.encode(ResumeRequest.fromPartial({ job })).finish()),
  ...onJobs('watchJob', (job) => WatchJobRequest.encode(WatchJobRequest.fromPartial({ job })).finish()),
  ...onJobs('watchJob', (job) =>
    WatchJobRequest.encode(WatchJobRequest.fromPartial({ job, afterRevision: 9999n })).finish(),
  ),
  ...onDomains('listJobs', (domain) => ListJobsRequest.encode(ListJobsRequest.fromPartial({ domain })).finish()),
  ...onDomains('listLeftovers', (domain) =>
    ListLeftoversRequest.encode(ListLeftoversRequest.fromPartial({ domain })).finish(),
  ),
  ...onDomains('getDomain', (domain) => GetDomainRequest.encode({ domain }).finish()),
  ...onDomains('checkOperation', (domain) =>
    CheckOperationRequest.encode(
      CheckOperationRequest.fromPartial({ domain, operation: Operation.OPERATION_MIGRATE }),
    ).finish(),
  ),
  ...onDomains('checkOperation', (domain) =>
    CheckOperationRequest.encode(
      CheckOperationRequest.fromPartial({ domain, disk: 'vd0', operation: Operation.OPERATION_RESIZE }),
    ).finish(),
  ),
  // Ids of others: of requests, of leftovers, and positions in lists.
  ...['startCopy by a request_id', 'pause by a request_id'].map((how): Question => {
    const job = byId('bj0123456789abcdef');
    const absent = disk('nobody');
    return how.startsWith('pause')
      ? ['pause', how, ({ requestId }) => PauseRequest.encode(PauseRequest.fromPartial({ job, requestId })).finish()]
      : [
          'startCopy',
          how,
          ({ requestId }) =>
            StartCopyRequest.encode(
              StartCopyRequest.fromPartial({ disk: absent, destination: FILE, requestId }),
            ).finish(),
        ];
  }),
  ...['file', 'node', 'job'].flatMap((kind) =>
    [true, false].map(
      (apply): Question => [
        'reclaim',
        `${kind}, ${apply ? 'removed' : 'only looked at'}`,
        ({ ended }) => {
          const leftoverIds = [`${kind}:${ended}`, `host1/${kind}:${ended}`];
          return ReclaimRequest.encode(ReclaimRequest.fromPartial({ leftoverIds, apply })).finish();
        },
      ],
    ),
  ),
  [
    'listDomains',
    'by a page token',
    ({ name }) =>
      ListDomainsRequest.encode(
        ListDomainsRequest.fromPartial({ pageSize: 1, pageToken: tokenOf('domains', `${name} host1`) }),
      ).finish(),
  ],
  [
    'listJobs',
    'by a page token',
    ({ ended }) =>
      ListJobsRequest.encode(ListJobsRequest.fromPartial({ pageToken: tokenOf('jobs', `9 ${ended}`) })).finish(),
  ],
  [
    'listLeftovers',
    'by a page token',
    ({ ended }) =>
      ListLeftoversRequest.encode(
        ListLeftoversRequest.fromPartial({ pageToken: tokenOf('leftovers', ` host1 node:${ended}`) }),
      ).finish(),
  ],
];

interface Answer {
  readonly code: number;
  readonly details: string;
  readonly trailers: string;
  readonly messages: readonly string[];
}

/** Over the wire, in bytes. */
async function ask(caller: Caller, rpc: Rpc, bytes: Uint8Array): Promise<Answer> {
  const { path, responseStream } = SERVICES[rpc];
  const message = Buffer.from(bytes);
  const messages: string[] = [];
  const error = await new Promise<ServiceError | undefined>((resolve) => {
    const options = { deadline: Date.now() + 20_000 };
    if (responseStream) {
      const stream = caller.blockJobs.makeServerStreamRequest(
        path,
        identity,
        identity,
        message,
        new Metadata(),
        options,
      );
      stream.on('data', (data: Buffer) => messages.push(data.toString('latin1')));
      stream.on('error', resolve as (error: Error) => void).on('end', () => resolve(undefined));
      return;
    }
    caller.blockJobs.makeUnaryRequest(path, identity, identity, message, new Metadata(), options, (failed, answer) => {
      if (answer !== undefined) messages.push(answer.toString('latin1'));
      resolve(failed ?? undefined);
    });
  });
  const trailers = Object.entries(error?.metadata.toHttp2Headers() ?? {}).filter(([key]) => key !== 'date');
  const raw = (error?.metadata.get('grpc-status-details-bin') ?? []).map((one) => Buffer.from(one).toString('latin1'));
  const others = trailers.filter(([key]) => key !== 'grpc-status-details-bin');
  return {
    code: error?.code ?? 0,
    details: error?.details ?? '',
    trailers: JSON.stringify([others, raw]),
    messages,
  };
}

/** The answer without the words of the caller: each pair has the same length. */
function blind(answer: Answer, words: Words): Answer {
  const all = [words.name, words.uuid, words.uuid.toUpperCase(), words.running, words.ended, words.requestId];
  const out = (text: string) => all.reduce((rest, word) => rest.replaceAll(word, '#'.repeat(word.length)), text);
  return {
    ...answer,
    details: out(answer.details),
    trailers: out(answer.trailers),
    messages: answer.messages.map(out),
  };
}

/** The events about the jobs of a domain, until the watch is complete. */
async function toldOfAll(me: Caller, domain: string): Promise<readonly string[]> {
  const stream = me.blockJobs.watchJobs(WatchJobsRequest.fromPartial({ domain }));
  stream.on('error', () => undefined);
  const abouts: WatchJobsResponse['about'][] = [];
  for await (const { about } of stream as AsyncIterable<WatchJobsResponse>) {
    abouts.push(about);
    if (about?.$case === 'complete') break;
  }
  stream.cancel();
  return abouts.map((about) => JSON.stringify(about)).toSorted();
}

describe('objects that do not exist, and objects of others', () => {
  let tenants: Tenants;
  let there: Words;
  const ABSENT: Words = {
    // After the same jobs in the order of a list, because a page token is a position in it.
    name: 'theirz',
    uuid: 'aaaaaaaa-bbbb-4ccc-8ddd-ffffffffffff',
    running: 'bjc0ffee1111111111',
    ended: 'bjc0ffee2222222222',
    requestId: 'another-id',
  };

  beforeAll(async () => {
    tenants = await Tenants.open();
    there = { name: 'theirs', uuid: UUIDS.theirs, ...tenants.jobs, requestId: 'of-theirs1' };
    await tenants.startTheirs(there.requestId);
    there = { ...there, ...tenants.jobs };
  }, 60_000);
  afterAll(async () => await tenants[Symbol.asyncDispose]());

  it('every call of the contract is tried, with words of equal length', () => {
    for (const [what, word] of Object.entries(there)) expect(word).toHaveLength(ABSENT[what as keyof Words].length);
    // A watch of all jobs does not end; it has a test of its own.
    const asked = new Set<string>([...QUESTIONS.map(([rpc]) => rpc), 'watchJobs']);
    expect(asked).toEqual(new Set(Object.keys(SERVICES)));
  });

  it.each(GUARDED_WAYS)('the requested object exists for a caller that may read it: %s', async (way) => {
    const reader = await tenants.caller(way, 'reader');
    for (const job of [there.running, there.ended]) expect((await reader.getInfo(job)).id).toBe(job);
    const [leftover] = await reader.listLeftovers('theirs');
    expect(leftover?.jobId).toBe(there.ended);
    expect((await reader.getDomain(there.uuid)).name).toBe('theirs');
  });

  describe.each(GUARDED_WAYS)('%s', (way) => {
    let me: Caller;
    beforeAll(async () => {
      me = await tenants.caller(way, 'me');
    });

    it('watchJobs of a domain', async () => {
      for (const name of ['name', 'uuid'] as const)
        expect(await toldOfAll(me, there[name])).toEqual(await toldOfAll(me, ABSENT[name]));
      expect((await toldOfAll(me, there.name)).filter((about) => about.includes('event'))).toEqual([]);
    });

    it.each(QUESTIONS.map((one, at) => [one[0], one[1], at] as const))('%s %s (%d)', async (_rpc, _how, at) => {
      const [rpc, , message] = QUESTIONS[at] ?? ([] as never);
      const changes = tenants.qemus.theirs.changes.length;
      const told = async (words: Words) => {
        tenants.asked();
        const answer = blind(await ask(me, rpc, message(words)), words);
        return { answer, asked: tenants.asked() };
      };
      // The first call of a kind may have to find facts that are remembered later.
      await told(ABSENT);
      const absent = await told(ABSENT);
      expect(await told(there)).toEqual(absent);
      expect(tenants.qemus.theirs.changes).toHaveLength(changes);
    });
  });
});
