/**
 * The known state of the service. One poll per second covers all running jobs, however many there are: a browser gives
 * a host six connections, of which this takes one, and the watch of the open job another.
 */
import type { Leftover } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import type { Domain } from '../generated/es/blockjob/v1/domain_service_pb.js';
import { type Job, Job_State } from '../generated/es/blockjob/v1/job_pb.js';
import type { ServerInfo } from '../generated/es/blockjob/v1/server_service_pb.js';
import { domainService, jobService, reasonOf, serverService, textOf } from './ask.ts';
import { History } from './history.ts';
import { JobWatch } from './job-watch.ts';

const { STARTING, RUNNING, READY, PIVOTING, CANCELLING, COMPLETED, CANCELLED, FAILED, UNRESOLVED } = Job_State;
const ACTIVE = [STARTING, RUNNING, READY, PIVOTING, CANCELLING];
const ENDED = [COMPLETED, CANCELLED, FAILED, UNRESOLVED];

const POLL_MS = 1000;
/** Facts that seldom change are asked at every so many polls. */
const ENDED_POLLS = 10;
const DOMAINS_POLLS = 5;
const LEFTOVERS_POLLS = 30;
const SERVER_POLLS = 30;
const OPENED_POLLS = 3;
/** An answer that takes longer counts as none. */
const PATIENCE = { timeoutMs: 10_000 };
const LARGEST_PAGE = 500;

export type Opened = { readonly job: string } | { readonly domain: string } | undefined;

export class Live {
  running: readonly Job[] = [];
  ended: readonly Job[] = [];
  /** There are older jobs than those in `ended`. */
  hasMoreEnded = false;
  domains: readonly Domain[] = [];
  leftovers: readonly Leftover[] = [];
  unreachableHosts: readonly string[] = [];
  server: ServerInfo | undefined;
  /** The first answer has come. */
  isKnown = false;
  /** Since when the service has not answered, and why; undefined if it does. */
  cutOff: { readonly since: Date; readonly why: string } | undefined;
  /** The open domain, with its disks; or why there is none to show. */
  domain: Domain | { readonly why: string } | undefined;
  /** The open job. */
  watch: JobWatch | undefined;
  readonly history = new History();
  readonly #changed: () => void;
  #opened: Opened;
  #howManyEnded = 25;
  #polls = 0;
  #now = Promise.withResolvers<void>();

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  /** Shows one job or domain in full, and no other. */
  open(opened: Opened): void {
    this.#opened = opened;
    this.watch?.close();
    this.watch = undefined;
    this.domain = undefined;
    if (opened !== undefined && 'job' in opened) {
      this.watch = new JobWatch(opened.job, this.history, this.#changed);
    }
    this.look();
  }

  showMoreEnded(): void {
    this.#howManyEnded = Math.min(this.#howManyEnded + 100, LARGEST_PAGE);
    this.look();
  }

  /** For ever. */
  async run(): Promise<never> {
    for (;;) {
      this.#now = Promise.withResolvers();
      if (document.visibilityState === 'visible') await this.#poll();
      // The page is hidden: the service has other work, and the connections are needed elsewhere.
      else this.watch?.close();
      const timer = setTimeout(this.#now.resolve, POLL_MS);
      await this.#now.promise;
      clearTimeout(timer);
    }
  }

  /** Asks for everything, now. */
  look(): void {
    this.#polls = 0;
    this.#now.resolve();
  }

  async #poll(): Promise<void> {
    const isDue = (everyPolls: number) => this.#polls % everyPolls === 0;
    const opened = this.#opened;
    try {
      const before = this.running;
      await this.#askForRunning();
      const isGone = before.some(({ id }) => !this.running.some((job) => job.id === id));
      if (isDue(ENDED_POLLS) || isGone) await this.#askForEnded();
      if (isDue(SERVER_POLLS)) this.server = (await serverService.getServerInfo({}, PATIENCE)).server;
      if (isDue(DOMAINS_POLLS)) await this.#askForDomains();
      if (isDue(LEFTOVERS_POLLS)) await this.#askForLeftovers();
      if (opened !== undefined && 'domain' in opened && isDue(OPENED_POLLS)) await this.#askForDomain(opened.domain);
      if (isDue(OPENED_POLLS)) await this.watch?.lookAgain();
      this.#polls += 1;
      this.isKnown = true;
      this.cutOff = undefined;
      this.watch?.go();
    } catch (error) {
      const why = reasonOf(error) === '' ? 'it does not answer' : textOf(error);
      this.cutOff = { since: this.cutOff?.since ?? new Date(), why };
      // Everything may be different when it is back.
      this.#polls = 0;
    }
    this.#changed();
  }

  async #askForRunning(): Promise<void> {
    const jobs: Job[] = [];
    let unreachable: readonly string[] = [];
    let pageToken = '';
    do {
      const request = { stateFilter: ACTIVE, pageSize: LARGEST_PAGE, pageToken };
      const page = await jobService.listJobs(request, PATIENCE);
      jobs.push(...page.jobs);
      unreachable = page.unreachableHosts;
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    this.running = jobs;
    this.unreachableHosts = unreachable;
    for (const job of jobs) this.history.add(job);
    const open = this.watch === undefined ? [] : [this.watch.jobId];
    this.history.keepOnly(new Set([...jobs.map(({ id }) => id), ...open]));
  }

  async #askForEnded(): Promise<void> {
    const page = await jobService.listJobs({ stateFilter: ENDED, pageSize: this.#howManyEnded }, PATIENCE);
    this.ended = page.jobs;
    this.hasMoreEnded = page.nextPageToken !== '' && this.#howManyEnded < LARGEST_PAGE;
  }

  async #askForDomains(): Promise<void> {
    const domains: Domain[] = [];
    let pageToken = '';
    do {
      const page = await domainService.listDomains({ pageSize: LARGEST_PAGE, pageToken }, PATIENCE);
      domains.push(...page.domains);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    this.domains = domains;
  }

  async #askForLeftovers(): Promise<void> {
    const page = await jobService.listLeftovers({ pageSize: LARGEST_PAGE }, PATIENCE);
    this.leftovers = page.leftovers;
  }

  async #askForDomain(name: string): Promise<void> {
    try {
      const { domain } = await domainService.getDomain({ domain: name }, PATIENCE);
      if (this.#isOpen(name)) this.domain = domain;
    } catch (error) {
      if (reasonOf(error) === '') throw error;
      if (this.#isOpen(name)) this.domain = { why: textOf(error) };
    }
  }

  #isOpen(domain: string): boolean {
    return this.#opened !== undefined && 'domain' in this.#opened && this.#opened.domain === domain;
  }
}
