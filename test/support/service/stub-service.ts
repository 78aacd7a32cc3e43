/** A service whose jobs go the way that a test says, and which records its requests; over real gRPC. */
import type {
  BlockJobs,
  Call,
  Checked,
  Domain,
  DomainDisk,
  PlannedJob,
  Started,
} from '../../../src/core/block-jobs.ts';
import type { Encryption } from '../../../src/core/destination.ts';
import { type Failure, failure } from '../../../src/core/errors.ts';
import { type ForeignJobs, NO_FOREIGN_JOBS } from '../../../src/core/foreign-job.ts';
import { JobEvent } from '../../../src/core/job/job-event.ts';
import { type JobView, publicJob } from '../../../src/core/job/job-view.ts';
import type { Outcome } from '../../../src/core/job/outcome.ts';
import type { JobsMessage } from '../../../src/core/jobs-message.ts';
import type { AbortRequest, StartRequest, WatchJobsRequest, WatchRequest } from '../../../src/core/requests.ts';
import { Wake } from '../../../src/lib/wake.ts';
import { DESTINATION, JOB, jobOf, SOURCE } from '../../unit/core/stories.ts';
import { until } from '../until.ts';
import type { InProcess, Ran } from './cli.ts';
import { runInside } from './cli.ts';
import { serving } from './stub-server.ts';

type State = JobView['job']['state'];
type Kind = JobView['job']['accepted']['kind'];

const ENDS: readonly State[] = ['COMPLETED', 'CANCELLED', 'FAILED', 'UNRESOLVED'];
const base = { ...jobOf(), ...publicJob(jobOf()) };
const OUTCOME: Outcome = {
  guestWritesTo: SOURCE,
  destinationContent: 'COMPLETE',
  asOf: base.createTime,
  destinationRemoved: false,
  safeToDelete: [],
  evidence: [{ source: 'QEMU_GRAPH', text: 'the device is on the node', revision: 3 }],
};
export const PIVOTED: Outcome = {
  ...OUTCOME,
  guestWritesTo: DESTINATION,
  asOf: undefined,
  safeToDelete: [{ path: SOURCE, warning: 'name the new image first' }],
};

export const DOMAIN: Domain = {
  name: 'vm1',
  uuid: '8d2a2ee0-0d38-4d8a-9e24-2b8f8e2f6a11',
  host: 'host1',
  connection: { up: true, qemuVersion: '10.0.0', qemuPid: 7, guestState: 'RUNNING' },
};
const DISK: DomainDisk = {
  disk: {
    id: 'vd0',
    backend: '',
    chain: [
      {
        node: 'top',
        format: 'qcow2',
        path: SOURCE,
        storage: { node: 'top-file', driver: 'file' },
        virtualSizeBytes: 1 << 30,
        allocatedBytes: 1 << 20,
        readOnly: false,
        encrypted: false,
        backingFile: '',
        backingFormat: '',
        bitmaps: [],
      },
    ],
  },
  deviceType: 'virtio-blk-pci',
  activeJob: undefined,
};

export const PLAN: PlannedJob = {
  etag: 'e1',
  accepted: base.accepted,
  steps: [
    { name: 'create-destination', phase: 'START', run: 'create the file', undo: 'remove the file', reason: 'so' },
    { name: 'complete', phase: 'PIVOT', run: '{"execute": "job-complete"}', undo: '', reason: '' },
  ],
  notes: ['the guest is paused for the pivot'],
};

export interface Asked {
  readonly method: string;
  readonly request: Readonly<Record<string, unknown>>;
}

const page = <T>(...items: T[]) => ({ items, nextPageToken: '', unreachableHosts: [] });

export class StubService {
  readonly asked: Asked[] = [];
  kind: Kind = 'COPY';
  /** The states of a job after its start; it stays in the last one. */
  course: State[] = ['RUNNING'];
  outcome: Outcome = OUTCOME;
  failure: Failure | undefined;
  /** The encryption of a copy's destination; undefined if it has none. */
  encryption: Encryption | undefined;
  /** The gate of its pivot, from READY on; undefined if it has none. */
  gate: JobView['job']['pivotGate'];
  checked: Checked = { reasons: [], blocking: [] };
  /** Foreign jobs beside its own. */
  foreign: ForeignJobs = NO_FOREIGN_JOBS;
  #timeLimitMs: number | undefined;
  /** Refuses a call of a method, by its exception. */
  refuse: ((method: string) => void) | undefined;
  readonly #changed = new Wake();

  get last(): number {
    return this.course.length;
  }

  /** Moves the job to these states. */
  go(...states: readonly State[]): void {
    this.course.push(...states);
    this.#changed.notify();
  }

  /** Resolves when a method has been called. */
  async isAsked(method: string): Promise<void> {
    await until(`${method} is asked`, this.#changed, () => this.request(method) !== undefined);
  }

  /** The last request of a method. */
  request(method: string): Readonly<Record<string, unknown>> | undefined {
    return this.asked.findLast((one) => one.method === method)?.request;
  }

  viewAt(revision: number): JobView {
    const state = this.course[revision - 1] ?? 'STARTING';
    const hasEnded = ENDS.includes(state);
    const owner = this.gate && { configOwner: 'EXTERNAL' as const };
    const options = { ...base.accepted.options, timeLimitMs: this.#timeLimitMs, ...owner };
    const { destination } = base.accepted;
    const encrypted = destination && { ...destination, ...(this.encryption && { encryption: this.encryption }) };
    const accepted = { ...base.accepted, destination: encrypted, kind: this.kind, options };
    return {
      job: {
        ...base,
        space: undefined,
        accepted: this.kind === 'COPY' ? accepted : { ...accepted, destination: undefined },
        revision,
        state,
        pivotGate: state === 'STARTING' || state === 'RUNNING' ? undefined : this.gate,
        outcome: hasEnded ? this.outcome : base.outcome,
        failure: hasEnded ? this.failure : undefined,
        ...(hasEnded ? { endTime: base.createTime } : {}),
      },
      progress: {
        currentBytes: hasEnded ? 100 : 50 << 20,
        endBytes: hasEnded ? 100 : 100 << 20,
        percent: hasEnded ? 100 : 50,
        remainingBytes: 0,
        bytesPerSecond: 10 << 20,
        dirtyBytesPerSecond: 0,
        etaMs: hasEnded ? 0 : 5000,
        floorBytes: 5,
        demandBytesPerSecond: 6,
        guestBytesPerSecond: 7,
        guestWriteBytes: 8,
        phase: 'COPYING',
        reason: 'will end at this rate',
        convergence: 'CONVERGING',
        sampleTime: base.createTime,
      },
    };
  }

  get view(): JobView {
    return this.viewAt(this.last);
  }

  /** Runs the command against this service. */
  async run(args: readonly string[], options: InProcess = {}): Promise<Ran> {
    await using server = await serving('unix', this.jobs);
    return await runInside(['--address', server.address, ...args], options);
  }

  get jobs(): Partial<BlockJobs> {
    return {
      startCopy: async (request) => {
        this.#timeLimitMs = request.timeLimitMs;
        return await this.#start('startCopy', request);
      },
      rebase: async (request) => await this.#start('rebase', request),
      commit: async (request) => await this.#start('commit', request),
      getInfo: async (job) => await this.#answer('getInfo', { job }, this.view),
      listJobs: async (request) => await this.#answer('listJobs', request, { ...page(this.view), ...this.foreign }),
      setSpeed: async (request) => await this.#answer('setSpeed', request, this.view),
      pause: async (request) => await this.#answer('pause', request, this.view),
      resume: async (request) => await this.#answer('resume', request, this.view),
      abort: async (request) => await this.#abort(request),
      watch: (request, call) => this.#watch(request, call),
      watchJobs: (request) => this.#watchJobs(request),
      checkOperation: async (request) => await this.#answer('checkOperation', request, this.checked),
      listDomains: async (request) => await this.#answer('listDomains', request, page(DOMAIN)),
      getDomain: async (domain) => await this.#answer('getDomain', { domain }, { domain: DOMAIN, disks: [DISK] }),
      listLeftovers: async (request) =>
        await this.#answer(
          'listLeftovers',
          request,
          page({
            id: 'file:1',
            kind: 'FILE' as const,
            host: 'host1',
            domain: 'vm1',
            jobId: JOB,
            name: '/copies/old.qcow2',
            allocatedBytes: 1 << 20,
            text: 'it could not be removed',
            blockedBy: '',
            createTime: undefined,
          }),
        ),
      reclaim: async (request) =>
        await this.#answer('reclaim', request, [
          { id: 'gone', leftover: undefined, failure: undefined },
          { id: 'file:1', leftover: undefined, failure: failure('ACCESS_DENIED', { path: '/x', why: 'EPERM' }) },
        ]),
    };
  }

  #note(method: string, request: object): void {
    this.asked.push({ method, request: { ...request } });
    this.#changed.notify();
  }

  async #start(method: string, request: StartRequest): Promise<Started> {
    return await this.#answer<Started>(method, request, request.validateOnly ? PLAN : this.viewAt(1));
  }

  async #answer<T>(method: string, request: object, answer: T): Promise<T> {
    await Promise.resolve();
    this.#note(method, request);
    this.refuse?.(method);
    return answer;
  }

  async #abort(request: AbortRequest): Promise<JobView> {
    await this.#answer('abort', request, undefined);
    if (request.pivot) {
      this.outcome = PIVOTED;
      this.go('PIVOTING', 'COMPLETED');
    } else this.go('CANCELLING', 'CANCELLED');
    return request.returnImmediately ? this.viewAt(this.last - 1) : this.view;
  }

  /** All events, and then the end: a test that watches for long would wait for ever. */
  async *#watchJobs(request: WatchJobsRequest): AsyncGenerator<JobsMessage> {
    await Promise.resolve();
    this.#note('watchJobs', request);
    const host = 'host1';
    const event = new JobEvent({ ...this.view, type: 'SNAPSHOT', time: base.createTime, detail: '' });
    yield { is: 'SNAPSHOT', host, lost: undefined };
    yield { is: 'EVENT', host, event };
    yield { is: 'SYNCED', host, starting: [], position: { epoch: 'e', at: 7 } };
    yield { is: 'UNREACHABLE', host: 'host2', why: failure('HOST_UNREACHABLE', { host: 'host2', why: 'a test' }) };
    yield { is: 'COMPLETE' };
  }

  async *#watch(request: WatchRequest, { signal }: Call): AsyncGenerator<JobEvent> {
    this.#note('watch', request);
    const event = (type: JobEvent['type'], revision: number): JobEvent => {
      return new JobEvent({ ...this.viewAt(revision), type, time: base.createTime, detail: '' });
    };
    let cursor = request.afterRevision ?? 1;
    if (request.afterRevision === undefined) yield event('SNAPSHOT', cursor);
    while (!signal.aborted) {
      const before = this.#changed.now;
      if (ENDS.includes(this.viewAt(cursor).job.state)) return;
      if (cursor < this.last) {
        cursor += 1;
        yield event('STATE', cursor);
      } else await this.#changed.after(before, { signal });
    }
  }
}
