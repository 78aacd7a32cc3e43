/** BlockJobs for the VMs of one host. */
import type { Logger } from 'pino';
import type {
  AbortRequest,
  BlockJobs,
  Call,
  CheckOperationRequest,
  CommitRequest,
  CopyRequest,
  Domain,
  DomainDisk,
  JobEvent,
  JobRef,
  JobView,
  ListJobsRequest,
  PauseRequest,
  RebaseRequest,
  SetSpeedRequest,
  Started,
  WatchRequest,
} from '../core/block-jobs.ts';
import { findDisk } from '../core/chain.ts';
import { BlockJobError, fail, failure } from '../core/errors.ts';
import type { Job } from '../core/job.ts';
import type { RequestMark } from '../core/journal-entry.ts';
import { checkAbort } from '../core/rules/abort.ts';
import { checkPause, parseSetSpeed } from '../core/rules/change.ts';
import { parseCheckOperation } from '../core/rules/check-operation.ts';
import { parseCommit } from '../core/rules/commit.ts';
import { page, stateFilter } from '../core/rules/list.ts';
import { parseRebase } from '../core/rules/rebase.ts';
import { parseStartCopy } from '../core/rules/start-copy.ts';
import { inTime } from '../lib/in-time.ts';
import { refuseBusyDisk, refuseBusyDomain } from './busy.ts';
import { PATIENCE_MS } from './graphs.ts';
import type { JobLog } from './job-log.ts';
import { JobTable } from './job-table.ts';
import type { Allowed } from './place.ts';
import { prepareCommit } from './prepare-commit.ts';
import { prepareCopy } from './prepare-copy.ts';
import { preparePull } from './prepare-pull.ts';
import { Progresses } from './progresses.ts';
import { type Change, changeDone, requestChange } from './request-change.ts';
import { requestEnd } from './request-end.ts';
import type { Site } from './site.ts';
import { type Start, Starts } from './starts.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';
import { watchJob } from './watch-job.ts';

export interface HostAgentOptions {
  readonly host: string;
  readonly machines: VirtualMachines;
  /** Where the journals are. */
  readonly jobsFolder: string;
  /** Where copies may go. */
  readonly allowed: Allowed;
  readonly logger: Logger;
}

export class HostAgent implements BlockJobs {
  readonly #options: HostAgentOptions;
  readonly #machines: VirtualMachines;
  readonly #progresses: Progresses;
  readonly #jobs: JobTable;
  readonly #starts: Starts;

  constructor(options: HostAgentOptions) {
    this.#options = options;
    this.#machines = options.machines;
    this.#progresses = new Progresses(options.machines);
    this.#jobs = new JobTable({ ...options, progresses: this.#progresses });
    this.#starts = new Starts({ ...options, jobs: this.#jobs });
  }

  /** Takes up jobs that a journal tells of, oldest first. */
  adopt(logs: readonly JobLog[]): void {
    this.#jobs.adopt(logs);
  }

  async startCopy(request: CopyRequest, call: Call): Promise<Started> {
    const spec = parseStartCopy(request);
    const prepare = async (site: Site) => await prepareCopy(spec, site);
    return await this.#start({ rpc: 'StartCopy', request, kind: 'COPY', prepare }, call);
  }

  async rebase(request: RebaseRequest, call: Call): Promise<Started> {
    const spec = parseRebase(request);
    const kind = spec.does === 'copy' ? 'COPY' : 'PULL';
    const prepare = async (site: Site) =>
      spec.does === 'copy' ? await prepareCopy(spec.copy, site) : await preparePull(spec.pull, site);
    return await this.#start({ rpc: 'Rebase', request, kind, prepare }, call);
  }

  async commit(request: CommitRequest, call: Call): Promise<Started> {
    const spec = parseCommit(request);
    const prepare = async (site: Site) => await prepareCommit(spec, site);
    return await this.#start({ rpc: 'Commit', request, kind: 'COMMIT', prepare }, call);
  }

  async #start(start: Start, call: Call): Promise<Started> {
    if (start.request.validateOnly) return await this.#starts.plan(start);
    const log = await this.#starts.start(start, call);
    if (log.refused) throw endedAs(log.job);
    return this.#view(log);
  }

  async getInfo(ref: JobRef, _call: Call): Promise<JobView> {
    const log = await this.#jobs.find(ref);
    await this.#progresses.refresh(log);
    return this.#view(log);
  }

  async listJobs(request: ListJobsRequest, _call: Call): Promise<{ jobs: readonly JobView[]; nextPageToken: string }> {
    const { domain, pageSize, pageToken } = request;
    const uuid = domain === '' ? undefined : this.#machines.find(domain)?.uuid;
    const ofDomain = ({ accepted }: Job) =>
      domain === '' || accepted.domain === domain || accepted.domainUuid === (uuid ?? domain);
    const states = stateFilter(request);
    const wanted = this.#jobs.newestFirst.filter(
      ({ job }) => ofDomain(job) && (states.size === 0 || states.has(job.state)),
    );
    const known = this.#machines.find(domain) !== undefined || this.#jobs.newestFirst.some(({ job }) => ofDomain(job));
    if (domain !== '' && !known) fail('DOMAIN_NOT_FOUND', { domain });
    const { items, nextPageToken } = page(wanted, ({ job }) => job.accepted.job, pageSize, pageToken);
    await Promise.all(items.map(async (log) => await this.#progresses.refresh(log)));
    return { jobs: items.map((log) => this.#view(log)), nextPageToken };
  }

  async abort(request: AbortRequest, { signal }: Call): Promise<JobView> {
    checkAbort(request);
    const log = await this.#once('Abort', request, async (found, mark) => await requestEnd(found, request, mark));
    while (!request.async && !log.ended && !signal.aborted) await log.changed.after(log.changed.now, { signal });
    if (!request.async && !log.ended) signal.throwIfAborted();
    // Whoever asked for a pivot and looks at the status only must not take a failure for success.
    if (request.pivot && log.ended && log.job.state !== 'COMPLETED') throw endedAs(log.job);
    return this.#view(log);
  }

  async setSpeed(request: SetSpeedRequest, { signal }: Call): Promise<JobView> {
    const bandwidthBytesPerSecond = parseSetSpeed(request);
    return await this.#change('SetSpeed', request, { entry: 'speed-requested', bandwidthBytesPerSecond }, signal);
  }

  async pause(request: PauseRequest, { signal }: Call): Promise<JobView> {
    checkPause(request);
    return await this.#change('Pause', request, { entry: 'pause-requested' }, signal);
  }

  async resume(request: PauseRequest, { signal }: Call): Promise<JobView> {
    checkPause(request);
    return await this.#change('Resume', request, { entry: 'resume-requested' }, signal);
  }

  async #change(rpc: string, request: PauseRequest, change: Change, signal: AbortSignal): Promise<JobView> {
    const log = await this.#once(rpc, request, async (found, mark) => await requestChange(found, change, mark));
    await changeDone(log, change, signal);
    return this.#view(log);
  }

  async #once(
    rpc: string,
    request: PauseRequest,
    act: (log: JobLog, mark: RequestMark | undefined) => Promise<void>,
  ): Promise<JobLog> {
    return await this.#jobs.requests.once(rpc, request, async (mark) => {
      const log = await this.#jobs.find(request.job);
      await act(log, mark);
      return log;
    });
  }

  async *watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent> {
    yield* watchJob(await this.#jobs.find(request.job), this.#progresses, request, call);
  }

  async checkOperation(request: CheckOperationRequest, _call: Call): Promise<void> {
    const address = parseCheckOperation(request);
    const machine = this.#machines.get(request.domain);
    await machine.asking(async () => {
      const [graph, jobs] = await Promise.all([machine.graph(), machine.jobs()]);
      const named = request.disk ?? address;
      const disk = named === undefined ? undefined : findDisk(graph, named);
      if (named !== undefined && disk === undefined) fail('DISK_NOT_FOUND', { domain: request.domain, disk: named });
      const site = { machine, table: this.#jobs, jobs };
      if (address !== undefined && disk !== undefined) refuseBusyDisk(disk, site);
      else refuseBusyDomain(graph, site);
    });
  }

  async listDomains(_call: Call): Promise<readonly Domain[]> {
    const domains = await Promise.all(this.#machines.all.map(async (machine) => await this.#domain(machine)));
    return domains.toSorted((a, b) => a.name.localeCompare(b.name));
  }

  async getDomain(name: string, _call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }> {
    const machine = this.#machines.get(name);
    const disks = await machine.asking(async () => {
      const graph = await machine.graph();
      return await Promise.all(
        graph.disks.map(async (disk) => {
          const log = this.#jobs.activeOn(machine, disk.qdev);
          const deviceType = await machine.deviceType(disk.qdev);
          return { disk, deviceType, activeJob: log && this.#view(log) };
        }),
      );
    });
    return { domain: await this.#domain(machine), disks };
  }

  async #domain(machine: VirtualMachine): Promise<Domain> {
    const { identity, name, uuid } = machine;
    const { host } = this.#options;
    if (identity === undefined) {
      const why = failure('QEMU_UNREACHABLE', { domain: name, why: machine.trouble });
      return { name, uuid, host, connection: { up: false, why } };
    }
    const guestState = await inTime(machine.guestState(), PATIENCE_MS);
    const { qemuVersion, facts } = identity;
    return {
      name,
      uuid,
      host,
      connection: { up: true, qemuVersion, qemuPid: facts?.process.pid, guestState },
    };
  }

  #view(log: JobLog): JobView {
    return { job: log.job, progress: this.#progresses.of(log.job) };
  }

  /** Jobs go on in QEMU; the next agent with this state folder takes them up. */
  async close(): Promise<void> {
    await this.#jobs.close();
  }
}

/** What a caller gets who asked for something else than this ending. */
function endedAs(job: Job): BlockJobError {
  const { accepted, state } = job;
  return new BlockJobError(job.failure ?? failure('JOB_ENDED', { job: accepted.job, state }));
}
