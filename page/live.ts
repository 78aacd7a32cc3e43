/**
 * The known state of the service. One stream has the events of all active jobs, however many there are, and is resumed by
 * its token. Other facts are in no stream, so the page asks for them, seldom.
 */
import type { Leftover, WatchJobsResponse } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import type { Domain } from '../generated/es/blockjob/v1/domain_service_pb.js';
import { type Job, Job_State, type JobEvent, JobEvent_Kind } from '../generated/es/blockjob/v1/job_pb.js';
import type { ServerInfo } from '../generated/es/blockjob/v1/server_service_pb.js';
import { domainService, jobService, PATIENCE, serverService } from './ask.ts';
import { Asks } from './asks.ts';
import { History } from './history.ts';
import { JobsNow } from './jobs-now.ts';
import { OpenedJob } from './opened-job.ts';
import { reasonOf, textOf, whyNot } from './reasons.ts';

const ENDED = [Job_State.COMPLETED, Job_State.CANCELLED, Job_State.FAILED, Job_State.UNRESOLVED];

/** The service sends a message at least every 15 seconds. */
const SILENCE_MS = 20_000;
const AGAIN_MS = { first: 500, longest: 5000 };
const LARGEST_PAGE = 500;

export type View = 'jobs' | 'domains' | 'leftovers';

export interface Opened {
  readonly view: View;
  /** The id of a job, or the name or UUID of a domain. Undefined: all jobs, or all domains. */
  readonly name: string | undefined;
}

type Asked = 'server' | 'ended' | 'domains' | 'leftovers' | 'opened';

export class Live {
  readonly jobs = new JobsNow();
  readonly history = new History();
  ended: readonly Job[] = [];
  /** There are older jobs than those in `ended`. */
  hasMoreEnded = false;
  domains: readonly Domain[] = [];
  domainsAsOf: Date | undefined;
  leftovers: readonly Leftover[] = [];
  leftoversAsOf: Date | undefined;
  server: ServerInfo | undefined;
  /** The time of the last message, and why the stream was lost. Undefined: it is not lost. */
  cutOff: { readonly since: Date; readonly why: string } | undefined;
  /** The open domain, with its disks; or why there is none to show. */
  domain: Domain | { readonly why: string } | undefined;
  domainAsOf: Date | undefined;
  job: OpenedJob | undefined;
  readonly asks: Asks<Asked>;
  readonly #changed: () => void;
  #opened: Opened = { view: 'jobs', name: undefined };
  #howManyEnded = 25;
  #resumeToken = '';
  #heard = new Date();
  #leave = new AbortController();

  constructor(changed: () => void) {
    this.#changed = changed;
    this.asks = new Asks(
      {
        server: async () => await this.#askForServer(),
        ended: async () => await this.#askForEnded(),
        domains: async () => await this.#askForDomains(),
        leftovers: async () => await this.#askForLeftovers(),
        opened: async () => await this.#askForOpened(),
      },
      { seldom: ['domains', 'leftovers', 'opened'], mayAsk: () => this.jobs.isComplete, changed },
    );
  }

  /** The stream and all answers have come once. */
  get isKnown(): boolean {
    return this.asks.isAnswered;
  }

  /** Shows one job or domain in full, and no other. */
  open(opened: Opened): void {
    this.#opened = opened;
    this.job?.close();
    this.job = undefined;
    this.domain = undefined;
    const { view, name } = opened;
    if (view === 'jobs' && name !== undefined) this.job = new OpenedJob(name, this.jobs.get(name));
    this.asks.now('domains', 'leftovers', 'opened');
  }

  showMoreEnded(): void {
    this.#howManyEnded += 100;
    this.asks.now('ended');
  }

  /** Does not return. */
  async run(): Promise<void> {
    await Promise.all([this.asks.run(), this.#follow()]);
  }

  /** A hidden page has no stream: a browser has six connections to a host, and the visible pages need them. */
  async #follow(): Promise<never> {
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'hidden') this.#leave.abort();
    });
    for (let pauseMs = AGAIN_MS.first; ; ) {
      await untilVisible();
      this.#leave = new AbortController();
      try {
        for await (const message of this.#messages(this.#leave.signal)) {
          pauseMs = AGAIN_MS.first;
          this.#take(message);
        }
        this.#lose('it has ended the stream');
      } catch (error) {
        // The token is not valid any more.
        if (reasonOf(error) === 'FIELD_INVALID') this.#resumeToken = '';
        this.#lose(whyNot(error));
      }
      if (this.#leave.signal.aborted) continue;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      pauseMs = Math.min(2 * pauseMs, AGAIN_MS.longest);
    }
  }

  /** Ends with the signal, and rejects if the service is silent for too long. */
  async *#messages(signal: AbortSignal): AsyncGenerator<WatchJobsResponse> {
    const silent = new AbortController();
    const listen = () => setTimeout(() => silent.abort(), SILENCE_MS);
    let timer = listen();
    try {
      const request = { activeOnly: true, resumeToken: this.#resumeToken };
      for await (const message of jobService.watchJobs(request, { signal: AbortSignal.any([signal, silent.signal]) })) {
        clearTimeout(timer);
        timer = listen();
        yield message;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(message: WatchJobsResponse): void {
    const { about, resumeToken } = message;
    this.cutOff = undefined;
    this.#heard = new Date();
    if (resumeToken !== '') this.#resumeToken = resumeToken;
    if (this.jobs.take(message)) {
      this.asks.soon('ended', 'leftovers');
      this.history.keepOnly(new Set([this.job?.jobId ?? '', ...this.jobs.running.map(({ id }) => id)]));
    }
    if (about.case === 'event') this.#event(about.value);
    // Another program may answer now, and jobs may have ended in the meantime.
    if (about.case === 'complete') this.asks.now('server', 'ended', 'domains', 'leftovers', 'opened');
    this.#changed();
  }

  #event(event: JobEvent): void {
    const { job } = event;
    if (job === undefined) return;
    this.history.add(job);
    if (this.job?.take(event) === true) this.asks.now('opened');
    const { domain } = this;
    const isShown = domain !== undefined && 'name' in domain && domain.name === job.disk?.domain;
    // The chain may have changed.
    if (isShown && event.kind !== JobEvent_Kind.PROGRESS) this.asks.soon('opened');
  }

  #lose(why: string): void {
    this.jobs.lose();
    if (!this.#leave.signal.aborted) this.cutOff = { since: this.#heard, why };
    this.#changed();
  }

  async #askForServer(): Promise<void> {
    this.server = (await serverService.getServerInfo({}, PATIENCE)).server;
  }

  /** Reads as many jobs as are shown, page by page. */
  async #askForEnded(): Promise<void> {
    const jobs: Job[] = [];
    let pageToken = '';
    do {
      const pageSize = Math.min(this.#howManyEnded - jobs.length, LARGEST_PAGE);
      const page = await jobService.listJobs({ stateFilter: ENDED, pageSize, pageToken }, PATIENCE);
      jobs.push(...page.jobs);
      pageToken = page.nextPageToken;
    } while (pageToken !== '' && jobs.length < this.#howManyEnded);
    this.ended = jobs;
    this.hasMoreEnded = pageToken !== '';
  }

  async #askForDomains(): Promise<void> {
    const { view, name } = this.#opened;
    const isEmpty = view === 'jobs' && this.jobs.running.length + this.ended.length === 0;
    if (name !== undefined || (view !== 'domains' && !isEmpty)) return;
    const domains: Domain[] = [];
    let pageToken = '';
    do {
      const page = await domainService.listDomains({ pageSize: LARGEST_PAGE, pageToken }, PATIENCE);
      domains.push(...page.domains);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    this.domains = domains;
    this.domainsAsOf = new Date();
  }

  async #askForLeftovers(): Promise<void> {
    const page = await jobService.listLeftovers({ pageSize: LARGEST_PAGE }, PATIENCE);
    this.leftovers = page.leftovers;
    this.leftoversAsOf = new Date();
  }

  async #askForOpened(): Promise<void> {
    const { view, name } = this.#opened;
    await this.job?.look();
    if (view === 'domains' && name !== undefined) await this.#askForDomain(name);
  }

  async #askForDomain(name: string): Promise<void> {
    const isOpen = () => this.#opened.view === 'domains' && this.#opened.name === name;
    try {
      const { domain } = await domainService.getDomain({ domain: name }, PATIENCE);
      if (!isOpen()) return;
      this.domain = domain;
      this.domainAsOf = new Date();
    } catch (error) {
      if (reasonOf(error) === '') throw error;
      if (isOpen()) this.domain = { why: textOf(error) };
    }
  }
}

async function untilVisible(): Promise<void> {
  while (document.visibilityState !== 'visible') {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  }
}
