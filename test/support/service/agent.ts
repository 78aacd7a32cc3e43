/** A HostAgent in the test's own process, on QMP sockets of the test. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { HostClock } from '../../../src/agent/host/host-clock.ts';
import { HostAgent, type HostAgentOptions } from '../../../src/agent/host-agent.ts';
import { GuestHolds } from '../../../src/agent/job/guest-holds.ts';
import { VirtualMachines } from '../../../src/agent/qemu/virtual-machines.ts';
import type { Call } from '../../../src/core/block-jobs.ts';
import type { JobView } from '../../../src/core/job/job-view.ts';
import type { AskedPolicy, CopyRequest } from '../../../src/core/requests.ts';

export interface TestAgentOptions {
  /** host1 by default. */
  readonly host?: string;
  /** Journals go into `jobs` below it. */
  readonly dir: string;
  /** Domain name → QMP socket. */
  readonly qmp: Readonly<Record<string, string>>;
  readonly allow: readonly string[];
  /** As in the agent of a fleet. */
  readonly mayChange?: HostAgentOptions['mayChange'];
  /** NONE by default. */
  readonly configOwner?: HostAgentOptions['configOwner'];
  /** Every two seconds, if it is not given. */
  readonly looks?: HostAgentOptions['looks'];
  /** Errors that the agent must log. */
  readonly complaints?: RegExp;
}

/** For tests that count questions: the agent does not look at its running jobs by itself. */
export const NO_LOOKS = () => ({ [Symbol.dispose]: () => undefined });

/** A caller without a deadline. */
export const PATIENT: Call = { signal: new AbortController().signal };

export class TestAgent implements AsyncDisposable {
  readonly agent: HostAgent;
  readonly jobsFolder: string;
  readonly holdsFolder: string;
  readonly #machines: VirtualMachines;
  readonly #complaints: string[];
  readonly #expected: RegExp | undefined;

  private constructor(
    agent: HostAgent,
    jobsFolder: string,
    machines: VirtualMachines,
    complaints: { readonly heard: string[]; readonly expected: RegExp | undefined },
  ) {
    this.agent = agent;
    this.jobsFolder = jobsFolder;
    this.holdsFolder = join(jobsFolder, '..', 'holds');
    this.#machines = machines;
    this.#complaints = complaints.heard;
    this.#expected = complaints.expected;
  }

  /** With the jobs that an earlier agent left in `dir`. Every domain answers when this returns. */
  static async start(options: TestAgentOptions): Promise<TestAgent> {
    const { host = 'host1', dir, qmp, allow, mayChange, looks, configOwner = 'NONE', complaints: expected } = options;
    const complaints: string[] = [];
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        complaints.push(chunk.toString());
        done();
      },
    });
    const logger = pino({ level: 'error' }, sink);
    const named = Object.entries(qmp).map(([name, socketPath]) => ({ name, socketPath }));
    const machines = new VirtualMachines({ folder: undefined, named, logger });
    const jobsFolder = join(dir, 'jobs');
    await mkdir(jobsFolder, { recursive: true });
    const journals = { folder: jobsFolder, clock: new HostClock() };
    const agent = await HostAgent.open({
      host,
      machines,
      owners: { own: 'c0ffee', adopted: [] },
      journals,
      holds: new GuestHolds(join(dir, 'holds'), logger),
      allowed: { folders: allow, nbdServers: [] },
      allowManaged: false,
      configOwner,
      limits: { jobs: 100, watchersPerJob: 100, keep: { days: 30, jobs: 1000, leftovers: 1000 } },
      ...(mayChange && { mayChange }),
      ...(looks && { looks }),
      logger,
    });
    const started = new TestAgent(agent, jobsFolder, machines, { heard: complaints, expected });
    await Promise.all(Object.keys(qmp).map(async (domain) => await started.connected(domain)));
    return started;
  }

  /** Starts a copy that is not only planned. */
  async startCopy(request: CopyRequest): Promise<JobView> {
    const started = await this.agent.startCopy(request, PATIENT);
    if ('etag' in started) throw new Error('a plan was not asked for');
    return started;
  }

  /** Resolves when the domain answers. */
  async connected(domain: string): Promise<void> {
    const machine = this.#machines.get(domain, PATIENT);
    while (machine.identity === undefined) await machine.wake.after(machine.wake.now);
  }

  /** Resolves when the job is in one of these states; rejects with its state if it ends in another. */
  async until(job: string, ...states: readonly JobView['job']['state'][]): Promise<JobView['job']['state']> {
    let last: JobView['job']['state'] = 'STARTING';
    const request = { job: { jobId: job }, afterRevision: undefined, progressIntervalMs: undefined };
    for await (const event of this.agent.watch(request, PATIENT)) {
      last = event.job.state;
      if (states.includes(last)) break;
    }
    return last;
  }

  /** An error in the log fails the test: an expected event must not be an error in the log. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.close();
    const unexpected = this.#complaints.filter((line) => this.#expected?.test(line) !== true);
    if (unexpected.length > 0) throw new Error(`the agent has logged errors: ${unexpected.join('')}`);
  }
}

/** A copy of disk vd0 of vm1, with only the required fields. */
/** An end policy that allows no step. */
export const NO_STEPS: AskedPolicy = {
  patienceMs: undefined,
  ceilingBytesPerSecond: 0n,
  switchToBlocking: false,
  chooseGranularity: false,
  atDeadline: undefined,
  maxGuestPauseMs: undefined,
};

export function copyTo(path: string, more: Partial<CopyRequest> = {}): CopyRequest {
  return {
    disk: { domain: 'vm1', disk: 'vd0' },
    destination: { kind: 'file', path },
    format: undefined,
    shallow: false,
    reuseExternal: false,
    encryption: undefined,
    relativeBacking: false,
    verifyReused: false,
    bandwidthBytesPerSecond: 0n,
    granularityBytes: 0n,
    bufferBytes: 0n,
    writeMode: undefined,
    onReady: undefined,
    onNoSpace: undefined,
    overcommit: false,
    pauseGuest: undefined,
    timeLimitMs: undefined,
    requestId: '',
    validateOnly: false,
    planEtag: '',
    accept: [],
    ...more,
  };
}
