/** BlockJobs for the VMs of one host. */
import type { BlockJobs, Call, Requests, Started } from '../core/block-jobs.ts';
import { hasEnded } from '../core/job.ts';
import type { JobEvent } from '../core/job-event.ts';
import type { JobView } from '../core/job-view.ts';
import type { RequestMark } from '../core/journal-entry.ts';
import type { Limits } from '../core/limits.ts';
import type { PauseRequest } from '../core/requests.ts';
import { mustOperate, unknownFor } from '../core/rights.ts';
import { checkAbort } from '../core/rules/abort.ts';
import { checkPause, parseSetSpeed } from '../core/rules/change.ts';
import { parseCommit } from '../core/rules/commit.ts';
import { BY_NAME, OLDEST_FIRST, page } from '../core/rules/list.ts';
import { parseRebase } from '../core/rules/rebase.ts';
import { checkReclaim } from '../core/rules/reclaim.ts';
import { parseStartCopy } from '../core/rules/start-copy.ts';
import { Watches } from '../watch/watches.ts';
import { Domains } from './domains.ts';
import type { EndedJob } from './ended-job.ts';
import { Figures } from './figures.ts';
import { findJob, type Known } from './find-job.ts';
import type { JobLog } from './job-log.ts';
import { JobTable, type JobTableOptions } from './job-table.ts';
import { JobViews } from './job-views.ts';
import { Leftovers } from './leftovers.ts';
import { listJobs } from './list-jobs.ts';
import { refuseMigratingPivot } from './migration.ts';
import { prepareCommit } from './prepare-commit.ts';
import { prepareCopy } from './prepare-copy.ts';
import { preparePull } from './prepare-pull.ts';
import { Progresses } from './progresses.ts';
import { refuseMovedPivot } from './prove-file.ts';
import { type Change, changeDone, requestChange } from './request-change.ts';
import { endedAs, requestEnd } from './request-end.ts';
import type { Site } from './site.ts';
import { type Start, Starts, type StartsOptions } from './starts.ts';
import { takeUp } from './take-up.ts';
import type { VirtualMachines } from './virtual-machines.ts';
import { WatchedJob } from './watched-job.ts';
import { WhoseJobs } from './whose-jobs.ts';

export interface HostAgentOptions extends Omit<JobTableOptions, 'progresses'>, Omit<StartsOptions, 'jobs'> {
  readonly limits: Limits;
}

export class HostAgent implements BlockJobs {
  readonly figures: Figures;
  readonly #options: HostAgentOptions;
  readonly #machines: VirtualMachines;
  readonly #progresses: Progresses;
  readonly #views: JobViews;
  readonly #jobs: JobTable;
  readonly #whose: WhoseJobs;
  readonly #starts: Starts;
  readonly #watches: Watches<WatchedJob>;
  readonly #domains: Domains;
  readonly #leftovers: Leftovers;

  constructor(options: HostAgentOptions) {
    this.#options = options;
    this.#machines = options.machines;
    this.#watches = new Watches(options.limits.watchersPerJob);
    this.#progresses = new Progresses(options.machines, (job) => this.#watches.feedOf(job)?.sampled());
    this.#jobs = new JobTable({ ...options, progresses: this.#progresses });
    this.#views = new JobViews(options.machines, this.#progresses, this.#jobs);
    this.#whose = new WhoseJobs(options.owners, this.#jobs);
    this.#starts = new Starts({ ...options, jobs: this.#jobs });
    this.#domains = new Domains(options.host, this.#machines, this.#jobs);
    this.#leftovers = new Leftovers(options.host, this.#machines, this.#jobs, this.#whose);
    const [machines, jobs, views] = [this.#machines, this.#jobs, this.#views];
    const [progresses, leftovers, watches] = [this.#progresses, this.#leftovers, this.#watches];
    this.figures = new Figures({ machines, jobs, views, progresses, leftovers, watches });
  }

  /** Takes up jobs that a journal tells of, oldest first, and then those that only QEMU knows. */
  async adopt(logs: readonly (JobLog | EndedJob)[]): Promise<void> {
    await this.#options.holds.find(logs);
    await this.#jobs.adopt(logs);
    const options = { ...this.#options, whose: this.#whose };
    this.#machines.onUp((machine) => this.#jobs.waitFor(takeUp(machine, options, this.#jobs)));
  }

  readonly startCopy: BlockJobs['startCopy'] = async (request, call) => {
    const spec = parseStartCopy(request);
    const prepare = async (site: Site) => await prepareCopy(spec, site);
    return await this.#start({ rpc: 'StartCopy', request, kind: 'COPY', prepare }, call);
  };

  readonly rebase: BlockJobs['rebase'] = async (request, call) => {
    const spec = parseRebase(request);
    const kind = spec.does === 'copy' ? 'COPY' : 'PULL';
    const prepare = async (site: Site) =>
      spec.does === 'copy' ? await prepareCopy(spec.copy, site) : await preparePull(spec.pull, site);
    return await this.#start({ rpc: 'Rebase', request, kind, prepare }, call);
  };

  readonly commit: BlockJobs['commit'] = async (request, call) => {
    const spec = parseCommit(request);
    const prepare = async (site: Site) => await prepareCommit(spec, site);
    return await this.#start({ rpc: 'Commit', request, kind: 'COMMIT', prepare }, call);
  };

  async #start(start: Start, call: Call): Promise<Started> {
    if (start.request.validateOnly) return await this.#starts.plan(start, call);
    const log = await this.#starts.start(start, call);
    if (log.neverRan) throw endedAs(log.job);
    return await this.#views.of(log.job);
  }

  readonly getInfo: BlockJobs['getInfo'] = async (ref, call) => await this.#now(await findJob(ref, call, this.#known));

  async #now(log: JobLog): Promise<JobView> {
    const [view] = await this.#views.now([log]);
    return view ?? this.#views.asWritten(log);
  }

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) =>
    await listJobs(request, call, { ...this.#known, host: this.#options.host, whose: this.#whose });

  readonly abort: BlockJobs['abort'] = async (request, call) => {
    checkAbort(request);
    const { signal } = call;
    const log = await this.#once('Abort', request, call, async (found, mark) => {
      // To break a job off is safe on whatever host.
      if (request.pivot) {
        await this.#mayChange(found, call);
        await refuseMigratingPivot(found, this.#machines);
        await refuseMovedPivot(found, this.#machines);
      }
      await requestEnd(found, request, mark);
    });
    if (!request.async) await log.until(hasEnded, signal);
    if (!request.async && !log.ended) signal.throwIfAborted();
    // Whoever asked for a pivot and looks at the status only must not take a failure for success.
    if (request.pivot && log.ended && log.job.state !== 'COMPLETED') throw endedAs(log.job);
    return await this.#views.of(log.job);
  };

  readonly setSpeed: BlockJobs['setSpeed'] = async (request, call) => {
    const bandwidthBytesPerSecond = parseSetSpeed(request);
    return await this.#change('SetSpeed', request, { entry: 'speed-requested', bandwidthBytesPerSecond }, call);
  };

  readonly pause: BlockJobs['pause'] = async (request, call) => {
    checkPause(request);
    return await this.#change('Pause', request, { entry: 'pause-requested' }, call);
  };

  readonly resume: BlockJobs['resume'] = async (request, call) => {
    checkPause(request);
    return await this.#change('Resume', request, { entry: 'resume-requested' }, call);
  };

  async #change(rpc: string, request: PauseRequest, change: Change, call: Call): Promise<JobView> {
    const asked: { at: number | undefined } = { at: undefined };
    const log = await this.#once(rpc, request, call, async (found, mark) => {
      await this.#mayChange(found, call);
      asked.at = await requestChange(found, change, mark);
    });
    // Who repeats a request waits for what the first one has led to.
    const since = asked.at ?? log.revisionOfRequest(request.requestId, call.caller);
    if (since !== undefined) await changeDone(log, change, since, call.signal);
    return await this.#views.of(log.job);
  }

  get #known(): Known & { readonly views: JobViews } {
    return { jobs: this.#jobs, machines: this.#machines, views: this.#views };
  }

  async #mayChange({ job: { accepted } }: JobLog, call: Call): Promise<void> {
    await this.#options.mayChange?.({ name: accepted.domain, uuid: accepted.domainUuid }, call);
  }

  async #once(
    rpc: string,
    request: PauseRequest,
    call: Call,
    act: (log: JobLog, mark: RequestMark | undefined) => Promise<void>,
  ): Promise<JobLog> {
    const log = await this.#jobs.requests.once({ rpc, request, call }, async (mark) => {
      const found = await findJob(request.job, call, this.#known);
      mustOperate(call, found.job.accepted.domain, unknownFor(request.job));
      await act(found, mark);
      return found;
    });
    // Also of what was asked for before: it may not be the caller's any more.
    mustOperate(call, log.job.accepted.domain, unknownFor(request.job));
    return log;
  }

  async *watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    const log = await findJob(request.job, call, this.#known);
    const job = { known: this.#views.asWritten(log), shown: async () => await this.#now(log) };
    yield* this.#watches.watch(job, () => new WatchedJob(log, this.#progresses), request, call);
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) =>
    await this.#domains.checkOperation(request, call);

  readonly listLeftovers: BlockJobs['listLeftovers'] = async (request, call) => ({
    ...page(await this.#leftovers.list(request.domain, call), OLDEST_FIRST, request),
    unreachableHosts: [],
  });

  readonly reclaim: BlockJobs['reclaim'] = async (request, call) => {
    checkReclaim(request);
    return await this.#leftovers.reclaim(request, call);
  };

  readonly listDomains: BlockJobs['listDomains'] = async (request, call) => {
    const isHere = request.host === '' || request.host === this.#options.host;
    return { ...page(isHere ? await this.#domains.list(call) : [], BY_NAME, request), unreachableHosts: [] };
  };

  readonly getDomain: BlockJobs['getDomain'] = async (name, call) =>
    await this.#domains.get(name, call, (log) => this.#views.asWritten(log));

  /** Jobs go on in QEMU; the next agent with this state folder takes them up. */
  async close(): Promise<void> {
    await this.#jobs.close();
  }
}
