/** BlockJobs for the VMs of one host. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type {
  AbortRequest,
  BlockJobs,
  Call,
  CopyRequest,
  Domain,
  DomainDisk,
  JobEvent,
  JobRef,
  JobView,
  ListJobsRequest,
  WatchRequest,
} from '../core/block-jobs.ts';
import { type BlockGraph, type Disk, findDisk, topDown } from '../core/chain.ts';
import { BlockJobError, fail, failure } from '../core/errors.ts';
import { hasEnded, type Job } from '../core/job.ts';
import type { Accepted, ImageFormat } from '../core/journal-entry.ts';
import { namesOf, planCopy } from '../core/plans/copy.ts';
import { checkAbort } from '../core/rules/abort.ts';
import { page, stateFilter } from '../core/rules/list.ts';
import { given } from '../core/rules/rule.ts';
import { type CopySpec, parseStartCopy } from '../core/rules/start-copy.ts';
import { checkNewFile } from './destination.ts';
import { failureFrom } from './failures.ts';
import { JobLog } from './job-log.ts';
import { Progresses } from './progresses.ts';
import { RunningJob, refusal } from './running-job.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';
import { watchJob } from './watch-job.ts';

export interface HostAgentOptions {
  readonly host: string;
  readonly machines: VirtualMachines;
  /** Where the journals are. */
  readonly jobsFolder: string;
  /** A destination must be below one of these. */
  readonly allowedFolders: readonly string[];
  readonly logger: Logger;
}

export class HostAgent implements BlockJobs {
  readonly #options: HostAgentOptions;
  /** Every job that this agent knows, oldest first. */
  readonly #jobs = new Map<string, JobLog>();
  readonly #running = new Map<string, { job: RunningJob; done: Promise<void> }>();
  readonly #progresses: Progresses;
  /** Disks on which a start is being prepared. */
  readonly #starting = new Set<string>();

  constructor(options: HostAgentOptions) {
    this.#options = options;
    this.#progresses = new Progresses(options.machines);
  }

  /** Takes up jobs that a journal tells of, oldest first. */
  adopt(logs: readonly JobLog[]): void {
    for (const log of logs) {
      this.#jobs.set(log.job.accepted.job, log);
      if (!log.ended) this.#drive(log, this.#runningJob(log));
    }
  }

  async startCopy(request: CopyRequest, { signal }: Call): Promise<JobView> {
    const spec = parseStartCopy(request);
    const machine = this.#options.machines.get(request.disk.domain);
    const log = await this.#accept(machine, request, spec);
    // The caller may leave: the start goes on to its end all the same.
    while (log.job.state === 'STARTING' && !signal.aborted)
      await log.changed.after(log.changed.now, { signal });
    signal.throwIfAborted();
    if (log.job.state === 'FAILED' && this.#jobs.get(log.job.accepted.job) === undefined)
      throw refusal(log.job);
    return this.#view(log);
  }

  /** Everything that can be refused is, before anything is changed; then the job is written down, and begins. */
  async #accept(machine: VirtualMachine, request: CopyRequest, spec: CopySpec): Promise<JobLog> {
    const { domain: asked, disk: address } = request.disk;
    return await this.#asking(machine, async (identity) => {
      const graph = await machine.graph();
      const disk = findDisk(graph, address) ?? fail('DISK_NOT_FOUND', { domain: asked, disk: address });
      const claim = `${machine.socketPath} ${disk.qdev}`;
      this.#refuseSecondJob(machine, disk, claim);
      this.#starting.add(claim);
      try {
        const [top] = disk.chain;
        if (top === undefined) fail('DISK_EMPTY', { domain: machine.name, disk: disk.id });
        const format =
          spec.format ??
          formatOf(top.format) ??
          fail('FORMAT_UNKNOWN', { format: top.format, path: top.path });
        const path = await checkNewFile(spec.path, this.#options.allowedFolders, await this.#graphs());
        const job = `bj${randomBytes(8).toString('hex')}`;
        const names = namesOf(job);
        const source = {
          disk,
          node: top.node,
          virtualSizeBytes: top.virtualSizeBytes,
          clusterSizeBytes: top.clusterSizeBytes,
          extendedL2: top.extendedL2,
        };
        const options = { ...spec.options, format };
        const deviceType = await machine.deviceType(disk.qdev);
        const accepted: Accepted = {
          entry: 'accepted',
          version: 1,
          job,
          kind: 'COPY',
          host: this.#options.host,
          domain: machine.name,
          domainUuid: identity.uuid,
          process: identity.facts?.process,
          disk: disk.id,
          qdev: disk.qdev,
          source: { node: top.node, path: top.path, format: top.format },
          sourceNodes: topDown(graph, top.node),
          destination: { node: names.node, path, nodes: [names.node, names.file] },
          pauseGuestBecause: deviceType?.startsWith('nvme') === true ? NVME_FAULT : undefined,
          options,
          plan: planCopy(job, source, path, identity.facts?.owner, options),
        };
        const log = await JobLog.begin(this.#options.jobsFolder, accepted).catch((error: unknown) => {
          throw asBlockJobError(error, machine.name, this.#options.jobsFolder);
        });
        this.#jobs.set(job, log);
        const running = this.#runningJob(log);
        this.#drive(log, running, running.start());
        return log;
      } finally {
        this.#starting.delete(claim);
      }
    });
  }

  /** Runs `work` on a QEMU that can be asked; what QEMU or the way to it has against it becomes our error. */
  async #asking<T>(
    machine: VirtualMachine,
    work: (identity: NonNullable<VirtualMachine['identity']>) => Promise<T>,
  ) {
    const { identity } = machine;
    if (identity === undefined) fail('QEMU_UNREACHABLE', { domain: machine.name, why: machine.trouble });
    try {
      return await work(identity);
    } catch (error) {
      throw asBlockJobError(error, machine.name, '');
    }
  }

  #refuseSecondJob(machine: VirtualMachine, disk: Disk, claim: string): void {
    const at = { domain: machine.name, disk: disk.id };
    const ours = this.#activeJobOf(machine, disk.qdev);
    if (ours !== undefined) fail('BLOCK_COPY_ACTIVE', { ...at, job: ours.job.accepted.job });
    if (this.#starting.has(claim)) fail('BLOCK_COPY_ACTIVE', { ...at, job: 'that is starting' });
    const [foreign] = disk.blockJobs;
    if (foreign !== undefined) fail('BLOCK_JOB_ACTIVE', { ...at, job: foreign });
  }

  #activeJobOf(machine: VirtualMachine, qdev: string): JobLog | undefined {
    return [...this.#jobs.values()].find(
      (log) =>
        !log.ended &&
        log.job.accepted.qdev === qdev &&
        machine.answersTo(log.job.accepted.domainUuid ?? log.job.accepted.domain),
    );
  }

  #runningJob(log: JobLog): RunningJob {
    const { domain, domainUuid } = log.job.accepted;
    return new RunningJob({
      log,
      machine: () => this.#options.machines.find(domainUuid ?? domain),
      heldPaths: async () => {
        const graphs = await this.#graphs();
        return new Set(graphs.flatMap(({ graph }) => [...graph.nodes.values()].map((node) => node.path)));
      },
      onBlockJobs: (blockJobs) => this.#progresses.take(blockJobs),
      logger: this.#options.logger,
    });
  }

  #drive(log: JobLog, running: RunningJob, started: Promise<void> = Promise.resolve()): void {
    const id = log.job.accepted.job;
    const done = started
      .then(async () => await running.drive())
      .then(async () => {
        await this.#finished(log);
      })
      .catch((error: unknown) => {
        this.#options.logger.fatal(
          { err: error, job: id },
          'nobody looks after this job any more; restart the agent',
        );
      });
    this.#running.set(id, { job: running, done });
  }

  async #finished(log: JobLog): Promise<void> {
    const id = log.job.accepted.job;
    if (!log.ended) return;
    this.#running.delete(id);
    const leftOver = [...log.job.steps.values()].includes('UNDO_FAILED');
    if (log.refused && !leftOver) {
      // Nothing is left of it: to its caller there never was a job.
      this.#jobs.delete(id);
      this.#progresses.forget(id);
      await log.remove();
      log.changed.notify();
    } else {
      await log.close();
    }
  }

  async #graphs(): Promise<readonly { domain: string; graph: BlockGraph }[]> {
    const up = this.#options.machines.all.filter((machine) => machine.identity !== undefined);
    const graphs = up.map(async (machine) => {
      const graph = await machine.graph().catch(() => undefined);
      return graph === undefined ? [] : [{ domain: machine.name, graph }];
    });
    return (await Promise.all(graphs)).flat();
  }

  async getInfo(ref: JobRef, _call: Call): Promise<JobView> {
    const log = await this.#find(ref);
    await this.#progresses.refresh(log);
    return this.#view(log);
  }

  async listJobs(
    request: ListJobsRequest,
    _call: Call,
  ): Promise<{ jobs: readonly JobView[]; nextPageToken: string }> {
    const machine = request.domain === '' ? undefined : this.#options.machines.find(request.domain);
    const ofDomain = (job: Job) =>
      request.domain === '' ||
      job.accepted.domain === request.domain ||
      job.accepted.domainUuid === (machine?.uuid ?? request.domain);
    const states = stateFilter(request);
    const wanted = [...this.#jobs.values()]
      .toReversed()
      .filter(({ job }) => ofDomain(job) && (states.size === 0 || states.has(job.state)));
    const { items, nextPageToken } = page(
      wanted,
      ({ job }) => job.accepted.job,
      request.pageSize,
      request.pageToken,
    );
    await Promise.all(items.map(async (log) => await this.#progresses.refresh(log)));
    return { jobs: items.map((log) => this.#view(log)), nextPageToken };
  }

  async abort(request: AbortRequest, { signal }: Call): Promise<JobView> {
    checkAbort(request);
    const log = await this.#find(request.job);
    await requestEnd(log, request);
    while (!request.async && !log.ended && !signal.aborted)
      await log.changed.after(log.changed.now, { signal });
    if (!log.ended) signal.throwIfAborted();
    // Whoever asked for a pivot and looks at the status only must not take a failure for success.
    if (request.pivot && log.ended && log.job.state !== 'COMPLETED') throw refusal(log.job);
    return this.#view(log);
  }

  async *watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent> {
    const log = await this.#find(request.job);
    yield* watchJob(log, this.#progresses, request, call);
  }

  async listDomains(_call: Call): Promise<readonly Domain[]> {
    const domains = await Promise.all(
      this.#options.machines.all.map(async (machine) => await this.#domain(machine)),
    );
    return domains.toSorted((a, b) => a.name.localeCompare(b.name));
  }

  async getDomain(domain: string, _call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }> {
    const machine = this.#options.machines.get(domain);
    const disks = await this.#asking(machine, async () => {
      const graph = await machine.graph();
      return await Promise.all(
        graph.disks.map(async (disk) => {
          const log = this.#activeJobOf(machine, disk.qdev);
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
    const guestState = await machine.guestState().catch(() => undefined);
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

  /** A job by its id, or the active job of a disk, or else that disk's latest. Throws JOB_NOT_FOUND. */
  async #find(ref: JobRef): Promise<JobLog> {
    if ('jobId' in ref) return this.#jobs.get(ref.jobId) ?? fail('JOB_NOT_FOUND', { job: ref.jobId });
    const { domain, disk: address } = ref.disk;
    const machine = this.#options.machines.get(domain);
    const qdev = await this.#asking(machine, async () => findDisk(await machine.graph(), address)?.qdev);
    if (qdev === undefined) fail('DISK_NOT_FOUND', { domain, disk: address });
    const onDisk = [...this.#jobs.values()].filter(
      ({ job }) =>
        job.accepted.qdev === qdev && machine.answersTo(job.accepted.domainUuid ?? job.accepted.domain),
    );
    const found = onDisk.findLast(({ job }) => !hasEnded(job)) ?? onDisk.at(-1);
    return found ?? fail('JOB_NOT_FOUND', { job: `on disk ${address} of domain ${domain}` });
  }

  /** Jobs go on in QEMU; the next agent with this state folder takes them up. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { job } of running) job.close();
    await Promise.all(running.map(async ({ done }) => await done));
    const open = [...this.#jobs.values()].filter((log) => !log.ended);
    await Promise.all(open.map(async (log) => await log.close()));
  }
}

const NVME_FAULT = 'QEMU can crash when a busy NVMe disk pivots while the guest runs (seen with QEMU 7.2)';

function formatOf(driver: string): ImageFormat | undefined {
  return driver === 'qcow2' ? 'QCOW2' : driver === 'raw' ? 'RAW' : undefined;
}

function asBlockJobError(error: unknown, domain: string, path: string): unknown {
  const failed = failureFrom(error, { domain, path, doing: 'asking QEMU' });
  return failed === undefined ? error : new BlockJobError(failed, { cause: error });
}

/** Writes down what the caller wants, if the job's state allows it. Asked for again, it is under way already. */
async function requestEnd(log: JobLog, { pivot, force, pauseGuest }: AbortRequest): Promise<void> {
  const entry = pivot
    ? ({ entry: 'pivot-requested', pauseGuest: given(pauseGuest) ?? 'AUTO' } as const)
    : ({ entry: 'cancel-requested', force } as const);
  const asked = log.job.intent;
  const again = asked?.entry === entry.entry && (entry.entry === 'pivot-requested' || !entry.force);
  const { accepted, state } = log.job;
  if (log.ended) fail('JOB_ENDED', { job: accepted.job, state });
  if (again) return;
  // A pivot under way is broken off only by force: it may succeed at any moment, and that is what was asked for.
  if (!pivot && !force && state === 'PIVOTING') fail('JOB_ENDING', { job: accepted.job, state });
  if (pivot && state === 'CANCELLING') fail('JOB_ENDING', { job: accepted.job, state });
  if ((await log.append(entry)) !== undefined) return;
  const now = log.job;
  if (hasEnded(now) || now.concluded !== undefined)
    fail('JOB_ENDED', { job: accepted.job, state: now.state });
  if (pivot) fail('JOB_NOT_READY', { job: accepted.job, state: now.state });
  fail('JOB_ENDING', { job: accepted.job, state: now.state });
}
