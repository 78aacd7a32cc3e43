/** BlockJobs for the VMs of one host. */
import { dirname } from 'node:path';
import type { BlockJobs, Call, Requests, Started } from '../core/block-jobs.ts';
import { hasMark } from '../core/job/guest-throttle.ts';
import type { Job } from '../core/job/job.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { JobView } from '../core/job/job-view.ts';
import type { JobsMessage } from '../core/jobs-message.ts';
import type { Limits } from '../core/limits.ts';
import type { PauseRequest } from '../core/requests.ts';
import { checkPause, checkReclaim, parseSetSpeed } from '../core/rules/change.ts';
import { parseCommit } from '../core/rules/commit.ts';
import { BY_NAME, OLDEST_FIRST, page, parseWatchJobs } from '../core/rules/list.ts';
import { parseRebase } from '../core/rules/rebase.ts';
import { parseStartCopy } from '../core/rules/start-copy.ts';
import { Pushed } from '../lib/pushed.ts';
import { followJobs, refuseMore, withComplete } from '../watch/follow-jobs.ts';
import { Watches } from '../watch/watches.ts';
import { Domains } from './desk/domains.ts';
import { Figures } from './desk/figures.ts';
import { HostJobs } from './desk/host-jobs.ts';
import { JobViews } from './desk/job-views.ts';
import { Leftovers } from './desk/leftovers.ts';
import { listJobs } from './desk/list-jobs.ts';
import { WatchedJob } from './desk/watched-job.ts';
import { findJob, type JobsKnown } from './job/find-job.ts';
import { JobRequests } from './job/job-requests.ts';
import { JobTable, type JobTableOptions } from './job/job-table.ts';
import { everyTwoSeconds, type Looks } from './job/looks.ts';
import { Progresses } from './job/progresses.ts';
import type { Change } from './job/request-change.ts';
import { endedAs } from './job/request-end.ts';
import { Sampler } from './job/sampler.ts';
import { SpaceWatch } from './job/space-watch.ts';
import { ThrottlesLeft } from './job/throttles-left.ts';
import { WhoseJobs } from './job/whose-jobs.ts';
import type { EndedJob } from './journal/ended-job.ts';
import type { JobLog } from './journal/job-log.ts';
import { orderOf } from './journal/order-file.ts';
import { openJobs } from './journal/start-up.ts';
import type { VirtualMachines } from './qemu/virtual-machines.ts';
import { takeUp } from './starts/lost-journal.ts';
import { type Start, Starts, type StartsOptions } from './starts/starts.ts';

export interface HostAgentOptions extends Omit<JobTableOptions, 'progresses'>, Omit<StartsOptions, 'jobs'> {
  readonly limits: Limits;
  /** Every two seconds, if it is not given. */
  readonly looks?: Looks;
}

export class HostAgent implements BlockJobs, AsyncDisposable {
  readonly figures: Figures;
  readonly #options: HostAgentOptions;
  readonly #machines: VirtualMachines;
  readonly #progresses: Progresses;
  readonly #views: JobViews;
  readonly #jobs: JobTable;
  readonly #sampler: Sampler;
  readonly #whose: WhoseJobs;
  readonly #throttles: ThrottlesLeft;
  readonly #starts: Starts;
  readonly #requests: JobRequests;
  readonly #space: SpaceWatch;
  #looks: Disposable | undefined;
  readonly #watches: Watches<WatchedJob>;
  readonly #hostJobs: HostJobs;
  readonly #domains: Domains;
  readonly #leftovers: Leftovers;
  #indexSaved: Promise<void> | undefined;

  /** With the jobs that an earlier agent has left. It closes `machines` when it is closed, and if it cannot open. */
  static async open(options: HostAgentOptions): Promise<HostAgent> {
    const agent = new HostAgent(options);
    try {
      await options.machines.start();
      const { jobs, saveIndex } = await openJobs(options.journals, options.logger);
      await agent.#adopt(jobs);
      agent.#hostJobs.epoch = await orderOf(dirname(options.journals.folder), options.journals.clock);
      agent.#indexSaved = saveIndex();
      return agent;
    } catch (error) {
      await agent.close();
      throw error;
    }
  }

  private constructor(options: HostAgentOptions) {
    this.#options = options;
    this.#machines = options.machines;
    this.#watches = new Watches(options.limits.watchersPerJob);
    this.#progresses = new Progresses(options.machines, (job) => {
      this.#watches.feedOf(job)?.sampled();
      this.#hostJobs.sampled(job);
    });
    const onRefused = () => this.#hostJobs.refused();
    const onEnded = (job: Job) => this.#ended(job);
    this.#jobs = new JobTable({ ...options, progresses: this.#progresses, onRefused, onEnded });
    const active = () => this.#jobs.known.active;
    this.#space = new SpaceWatch({ active, machines: options.machines, logger: options.logger });
    this.#sampler = new Sampler({ ...options, progresses: this.#progresses, active });
    this.#views = new JobViews(options.machines, this.#progresses, this.#jobs);
    this.#whose = new WhoseJobs(options.owners, this.#jobs);
    this.#throttles = new ThrottlesLeft({ jobs: this.#jobs, whose: this.#whose, logger: options.logger });
    this.#starts = new Starts({ ...options, jobs: this.#jobs });
    this.#requests = new JobRequests({ ...options, jobs: this.#jobs });
    this.#domains = new Domains(options.host, this.#machines, this.#jobs);
    this.#leftovers = new Leftovers(options.host, this.#machines, this.#jobs, this.#whose);
    const [machines, jobs, views] = [this.#machines, this.#jobs, this.#views];
    const [progresses, leftovers, watches] = [this.#progresses, this.#leftovers, this.#watches];
    this.#hostJobs = new HostJobs({ host: options.host, clock: options.journals.clock, jobs, views, progresses });
    this.figures = new Figures({ machines, jobs, views, progresses, leftovers, watches, space: this.#space });
  }

  /** Takes up the jobs of journals, oldest first, and then those that only QEMU knows. */
  async #adopt(logs: readonly (JobLog | EndedJob)[]): Promise<void> {
    await this.#options.holds.find(logs);
    await this.#jobs.adopt(logs);
    const options = { ...this.#options, whose: this.#whose, throttles: this.#throttles };
    this.#machines.onUp((machine) => {
      this.#jobs.waitFor(takeUp(machine, options, this.#jobs));
      this.#hostJobs.pollAgain();
      this.#space.hear(machine);
    });
    this.#space.look();
    this.#looks = (this.#options.looks ?? everyTwoSeconds)(() => {
      this.#sampler.sample();
      this.#space.look();
    });
  }

  #ended(job: Job): void {
    this.#options.onEnded?.(job);
    const machine = hasMark(job) ? this.#machines.of(job.accepted) : undefined;
    if (machine !== undefined) void this.#throttles.lift(machine);
  }

  readonly startCopy: BlockJobs['startCopy'] = async (request, call) => {
    const spec = { does: 'copy', copy: parseStartCopy(request) } as const;
    return await this.#start({ rpc: 'StartCopy', request, spec }, call);
  };

  readonly rebase: BlockJobs['rebase'] = async (request, call) =>
    await this.#start({ rpc: 'Rebase', request, spec: parseRebase(request) }, call);

  readonly commit: BlockJobs['commit'] = async (request, call) => {
    const spec = { does: 'commit', commit: parseCommit(request) } as const;
    return await this.#start({ rpc: 'Commit', request, spec }, call);
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
    return view ?? this.#views.asWritten(log.job);
  }

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) =>
    await listJobs(request, call, { ...this.#known, host: this.#options.host, whose: this.#whose });

  readonly abort: BlockJobs['abort'] = async (request, call) => {
    const begunMs = performance.now();
    const log = await this.#requests.abort(request, call);
    // Its files were looked at when its end was written down.
    if (log.ended && log.writtenMs > begunMs) return this.#views.asWritten(log.job);
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
    const log = await this.#requests.change({ rpc, request, change }, call);
    return await this.#views.of(log.job);
  }

  get #known(): JobsKnown & { readonly views: JobViews } {
    return { jobs: this.#jobs, machines: this.#machines, views: this.#views };
  }

  watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    return new Pushed(async (take) => {
      const log = await findJob(request.job, call, this.#known);
      const job = { known: this.#views.kept(log.job), shown: async () => await this.#now(log) };
      await this.#watches.watch(job, () => new WatchedJob(log, this.#progresses), request, call).to(take);
    });
  }

  watchJobs(request: Requests['watchJobs'], call: Call): AsyncIterable<JobsMessage> {
    const intervalMs = parseWatchJobs(request);
    refuseMore(this.#hostJobs.watchers);
    const after = request.positions.get(this.#options.host);
    return withComplete(followJobs(this.#hostJobs, { ...request, after, intervalMs, call }));
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) =>
    await this.#domains.checkOperation(request, call, (log) => this.#views.asWritten(log.job));

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
    await this.#domains.get(name, call, (log) => this.#views.asWritten(log.job));

  /** Jobs continue in QEMU; the next agent with this state folder takes them up. */
  async close(): Promise<void> {
    this.#looks?.[Symbol.dispose]();
    this.#throttles[Symbol.dispose]();
    await this.#jobs.close();
    await this.#machines.close();
    await this.#indexSaved;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
