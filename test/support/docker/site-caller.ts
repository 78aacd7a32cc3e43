/**
 * A client of a fleet, as a user would write one: with a certificate, deadlines, and a watch that survives the death of
 * a gateway.
 */
import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, status } from '@grpc/grpc-js';
import type { ListDomainsResponse } from '../../../generated/blockjob/v1/domain_service.ts';
import { type Job, Job_State, type JobEvent, type OnReady } from '../../../generated/blockjob/v1/job.ts';
import { byId, Caller, call } from '../service/caller.ts';
import type { Pair } from '../service/certificates.ts';

export const ENDED: ReadonlySet<number> = new Set([
  Job_State.STATE_COMPLETED,
  Job_State.STATE_CANCELLED,
  Job_State.STATE_FAILED,
  Job_State.STATE_UNRESOLVED,
]);

const MIB = 1 << 20;

/** A call that hangs is a failure; a watch continues. */
const SERVICE_CONFIG = {
  loadBalancingConfig: [],
  methodConfig: [
    { name: [{ service: 'blockjob.v1.BlockJobService' }, { service: 'blockjob.v1.DomainService' }], timeout: '20s' },
    { name: [{ service: 'blockjob.v1.BlockJobService', method: 'WatchJob' }] },
  ],
};

/** Undefined for no certificate. */
export function tlsOf(caFile: string, pair: Pair | undefined): ChannelCredentials {
  const ca = readFileSync(caFile);
  if (pair === undefined) return credentials.createSsl(ca);
  return credentials.createSsl(ca, readFileSync(pair.privateKeyFile), readFileSync(pair.certificateFile));
}

export interface Copy {
  readonly mibPerSecond: number;
  readonly onReady?: OnReady;
}

export class SiteCaller extends Caller implements Disposable {
  /** `name` is that of the server's certificate, which does not contain published ports. */
  constructor(name: string, port: number, tls: ChannelCredentials) {
    super(`127.0.0.1:${port}`, tls, {
      'grpc.ssl_target_name_override': name,
      'grpc.default_authority': name,
      'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
    });
  }

  /** Copies the disk of a VM into a new file. */
  async copy(vm: string, file: string, { mibPerSecond, ...rest }: Copy): Promise<Job> {
    return await this.startCopy({
      disk: { domain: vm, disk: 'virtio0' },
      destination: { target: { $case: 'file', value: file } },
      bandwidthBytesPerSecond: BigInt(Math.round(mibPerSecond * MIB)),
      ...rest,
    });
  }

  async pivot(jobId: string): Promise<Job> {
    return await this.abort({ job: byId(jobId), pivot: true });
  }

  async cancel(jobId: string): Promise<Job> {
    return await this.abort({ job: byId(jobId) });
  }

  /** With the hosts that did not answer. */
  async allDomains(): Promise<ListDomainsResponse> {
    return await call<ListDomainsResponse>(this.domains, 'listDomains', { host: '', pageSize: 0, pageToken: '' });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Every event of a job to its end. When a gateway is lost, the next one continues after the last revision. */
export async function* watchThrough(callers: readonly Caller[], jobId: string): AsyncGenerator<JobEvent> {
  let revision = 0n;
  for (const caller of callers) {
    try {
      for await (const event of caller.watch(jobId, Number(revision))) {
        revision = event.revision;
        yield event;
      }
      return;
    } catch (error) {
      if (!isUnavailable(error)) throw error;
    }
  }
  throw new Error(`the watch of job ${jobId} was lost behind revision ${revision} with every gateway`);
}

/** Resolves when the watch of a job has begun, with a promise of its end; every revision up to that must come once. */
export async function follow(callers: readonly Caller[], jobId: string): Promise<{ readonly end: Promise<Job> }> {
  const begun = Promise.withResolvers<void>();
  const end = endOf(callers, jobId, begun.resolve);
  end.catch(begun.reject);
  await begun.promise;
  return { end };
}

async function endOf(callers: readonly Caller[], jobId: string, begun: () => void): Promise<Job> {
  let last = 0n;
  for await (const { revision, job } of watchThrough(callers, jobId)) {
    begun();
    if (revision !== last && revision !== last + 1n) throw new Error(`revision ${revision} came after ${last}`);
    last = revision;
    if (job !== undefined && ENDED.has(job.state)) return job;
  }
  throw new Error(`the watch of job ${jobId} has ended before the job`);
}

function isUnavailable(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === status.UNAVAILABLE;
}
