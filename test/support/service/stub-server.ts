/** `serve` in the test's own process, over BlockJobs that the test controls; and clients of it. */

import { Writable } from 'node:stream';
import {
  type CallOptions,
  type ClientReadableStream,
  credentials,
  makeGenericClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { pino } from 'pino';
import { BlockJobServiceClient, type WatchJobResponse } from '../../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceClient } from '../../../generated/blockjob/v1/domain_service.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { begin, type Job } from '../../../src/core/job/job.ts';
import { JobEvent } from '../../../src/core/job/job-event.ts';
import { type JobView, publicJob } from '../../../src/core/job/job-view.ts';
import { plainOptions } from '../../../src/core/job-options.ts';
import type { ServerInfo } from '../../../src/core/server-info.ts';
import type { DoorLimits } from '../../../src/grpc/door/limits.ts';
import { serve } from '../../../src/grpc/server.ts';
import { testDir } from '../real-qemu/qemu.ts';

export const TRANSPORTS = ['unix', 'tcp'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export const INFO: ServerInfo = {
  version: '1.2.3',
  build: 'test',
  mode: 'SERVE',
  host: 'host1',
  startTime: new Date('2026-01-02T03:04:05Z'),
};

const notAsked = () => {
  throw new Error('the test does not say what this does');
};
export const NOTHING: BlockJobs = {
  startCopy: notAsked,
  rebase: notAsked,
  commit: notAsked,
  getInfo: notAsked,
  listJobs: notAsked,
  abort: notAsked,
  setSpeed: notAsked,
  pause: notAsked,
  resume: notAsked,
  watch: notAsked,
  watchJobs: notAsked,
  checkOperation: notAsked,
  listLeftovers: notAsked,
  reclaim: notAsked,
  listDomains: notAsked,
  getDomain: notAsked,
};

export interface StubServer extends AsyncDisposable {
  readonly address: string;
  readonly jobs: BlockJobServiceClient;
  readonly domains: DomainServiceClient;
  /** grpc.health.v1, of the whole server. */
  healthNow(): Promise<string>;
  watchHealth(service?: string): ClientReadableStream<unknown>;
  /** Log lines so far. */
  readonly log: readonly Readonly<Record<string, unknown>>[];
  drain(graceMs: number): Promise<void>;
}

const Health = makeGenericClientConstructor(healthService, 'Health');

export async function serving(
  transport: Transport,
  jobs: Partial<BlockJobs>,
  limits: Partial<DoorLimits> = {},
): Promise<StubServer> {
  await using cleanUp = new AsyncDisposableStack();
  const { path: dir } = cleanUp.use(await testDir('bj-stub-'));
  const log: Record<string, unknown>[] = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      log.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const listen = transport === 'unix' ? { unixSocket: `${dir}/api.sock` } : { host: '127.0.0.1', port: 0 };
  const options = { info: INFO, listen, limits, log: pino({ level: 'debug' }, sink) };
  const server = await serve({ ...NOTHING, ...jobs }, options);
  let drained: Promise<void> | undefined;
  const drain = async (graceMs: number) => await (drained ??= server.drain(graceMs));
  cleanUp.defer(async () => await drain(0));
  const reach = [server.address, credentials.createInsecure()] as const;
  const clients = { jobs: new BlockJobServiceClient(...reach), domains: new DomainServiceClient(...reach) };
  const health = new Health(...reach);
  cleanUp.defer(() => {
    for (const client of [...Object.values(clients), health]) client.close();
  });
  const owned = cleanUp.move();
  return {
    address: server.address,
    log,
    drain,
    ...clients,
    healthNow: async () =>
      await new Promise((resolve, reject) => {
        health['Check']?.({ service: '' }, (error: Error | null, answer: { status: string }) => {
          if (error === null) resolve(answer.status);
          else reject(error);
        });
      }),
    watchHealth: (service = '') => health['Watch']?.({ service }) as ClientReadableStream<unknown>,
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

export const identity = (bytes: Buffer) => bytes;

/** A unary call of bytes that no generated client would send. */
export async function callRaw(
  client: BlockJobServiceClient | DomainServiceClient,
  path: string,
  bytes: Buffer,
  options: CallOptions = {},
): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, identity, identity, bytes, options, (error, answer) => {
      if (error === null) resolve(answer ?? Buffer.alloc(0));
      else reject(error);
    });
  });
}

/** A streaming call of bytes. */
export function streamRaw(client: BlockJobServiceClient, path: string, bytes: Buffer): ClientReadableStream<Buffer> {
  return client.makeServerStreamRequest(path, identity, identity, bytes);
}

/** The messages of a stream, and its final error. */
export async function collect<T>(
  stream: ClientReadableStream<T>,
): Promise<{ messages: T[]; error: ServiceError | undefined }> {
  const messages: T[] = [];
  stream.on('data', (message: T) => messages.push(message));
  const error = await new Promise<ServiceError | undefined>((resolve) => {
    stream.on('error', resolve).on('end', () => resolve(undefined));
  });
  return { messages, error };
}

export type Watch = ClientReadableStream<WatchJobResponse>;

/** A job that has just been accepted. */
export const JOB: Job = begin({
  revision: 1,
  time: '2026-01-01T00:00:00.000Z',
  entry: 'accepted',
  version: 2,
  job: 'bj0011223344556677',
  kind: 'COPY',
  host: 'host1',
  domain: 'vm1',
  domainUuid: undefined,
  process: undefined,
  disk: 'vd0',
  qdev: '/machine/peripheral/vd0/virtio-backend',
  source: { node: 'top', path: '/vm/disk.qcow2', format: 'qcow2' },
  destination: {
    node: 'bj0011223344556677',
    path: '/copies/disk.qcow2',
    format: 'QCOW2',
    target: { kind: 'file', path: '/copies/disk.qcow2' },
  },
  unused: { afterSuccess: ['top'], otherwise: [] },
  committed: [],
  pauseGuestBecause: undefined,
  options: plainOptions(0),
  plan: [],
});
export const VIEW: JobView = { job: publicJob(JOB), progress: undefined };

export function event(type: JobEvent['type'], detail = ''): JobEvent {
  return new JobEvent({ ...VIEW, type, time: JOB.createTime, detail });
}
