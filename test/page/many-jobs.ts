/** BlockJobs with any number of jobs that only seem to run: more than a test machine could have QEMUs for. */
import { setInterval } from 'node:timers/promises';
import type { BlockJobs, Call, Domain, Requests } from '../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../src/core/errors.ts';
import { NO_FOREIGN_JOBS } from '../../src/core/foreign-job.ts';
import { hasEnded } from '../../src/core/job/job.ts';
import { JobEvent } from '../../src/core/job/job-event.ts';
import type { JobView } from '../../src/core/job/job-view.ts';
import type { JobsMessage } from '../../src/core/jobs-message.ts';
import { NOTHING, VIEW } from '../support/service/stub-server.ts';

const HOST = 'host1';
const EPOCH = 'epoch';
const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

type State = JobView['job']['state'];

/** The only step that helps is the last one. */
const END_POLICY = {
  patienceMs: 60_000,
  ceilingBytesPerSecond: 300 * MIB,
  switchToBlocking: false,
  chooseGranularity: false,
  atDeadline: 'ABORT',
  maxGuestPauseMs: undefined,
  guestThrottle: { floorBytesPerSecond: 5 * MIB, maxDurationMs: 600_000 },
} as const;

export interface Shape {
  readonly running: number;
  readonly ended: number;
  readonly domainName?: (index: number) => string;
}

export class ManyJobs {
  readonly jobs: BlockJobs;
  /** The number of open streams. */
  streams = 0;
  /** The positions of host1 that they were resumed after, in order. */
  readonly resumedAfter: (number | undefined)[] = [];
  /** The number of rounds in which the progress of all running jobs was sent. */
  rounds = 0;
  /** The number of calls of each method. */
  readonly calls: Readonly<Record<keyof BlockJobs, number>>;
  /** Messages that are sent once, before the next round. */
  readonly tells: JobsMessage[] = [];
  /** False: QEMU does not answer, so no progress is sent. */
  hasNumbers = true;
  /** The indexes of the jobs that have ended in the meantime. */
  readonly #over = new Set<number>();
  readonly #shape: Shape;
  readonly #began = Date.now();

  constructor(shape: Shape) {
    this.#shape = shape;
    const page = { nextPageToken: '', unreachableHosts: [] };
    const calls = Object.fromEntries(Object.keys(NOTHING).map((name) => [name, 0])) as Record<keyof BlockJobs, number>;
    this.calls = calls;
    const jobs: BlockJobs = {
      ...NOTHING,
      listJobs: async ({ states, pageSize }) => {
        const wanted = this.#all().filter(({ job }) => states.includes(job.state));
        const nextPageToken = wanted.length > pageSize ? 'more' : '';
        return await Promise.resolve({ ...page, ...NO_FOREIGN_JOBS, nextPageToken, items: wanted.slice(0, pageSize) });
      },
      getInfo: async (ref) => await Promise.resolve(this.#find('jobId' in ref ? ref.jobId : '')),
      watch: ({ job }) => this.#journal('jobId' in job ? job.jobId : ''),
      watchJobs: (request, call) => this.#stream(request, call),
      listDomains: async () => await Promise.resolve({ ...page, items: this.#domains() }),
      listLeftovers: async () => await Promise.resolve({ ...page, items: [] }),
    };
    this.jobs = new Proxy(jobs, {
      get: (all, name: keyof BlockJobs) => {
        calls[name] += 1;
        return all[name];
      },
    });
  }

  /** Ends the running job with this index. */
  end(index: number): void {
    this.#over.add(index);
    const { job } = this.#ended(index);
    const event = new JobEvent({
      job: { ...job, revision: 8 },
      progress: undefined,
      type: 'STATE',
      time: new Date().toISOString(),
      detail: 'it has ended',
    });
    this.tells.push({ is: 'EVENT', host: HOST, event, position: { epoch: EPOCH, at: 8 } });
  }

  #all(): JobView[] {
    const { running, ended } = this.#shape;
    return [
      ...Array.from({ length: running }, (_, index) =>
        this.#over.has(index) ? this.#ended(index) : this.#running(index),
      ),
      ...Array.from({ length: ended }, (_, index) => this.#ended(running + index)),
    ];
  }

  #find(id: string): JobView {
    const found = this.#all().find(({ job }) => job.accepted.job === id);
    if (found === undefined) throw new BlockJobError(failure('JOB_NOT_FOUND', { job: id }));
    return found;
  }

  /** Sends the entries so far; the stream of all jobs has the later ones. */
  async *#journal(id: string): AsyncGenerator<JobEvent> {
    const { job } = await Promise.resolve(this.#find(id));
    const time = new Date().toISOString();
    for (let revision = 1; revision <= job.revision; revision += 1) {
      const detail = revision === 1 ? 'accepted' : `entry ${revision}`;
      yield new JobEvent({ job: { ...job, revision }, progress: undefined, type: 'STATE', time, detail });
    }
  }

  async *#stream(
    { positions, activeOnly = false }: Requests['watchJobs'],
    { signal }: Call,
  ): AsyncGenerator<JobsMessage> {
    const after = positions.get(HOST)?.at;
    this.resumedAfter.push(after);
    this.streams += 1;
    try {
      if (after === undefined) {
        yield { is: 'SNAPSHOT', host: HOST, lost: undefined };
        const shown = this.#all().filter(({ job }) => !activeOnly || !hasEnded(job));
        for (const view of shown) yield this.#told('SNAPSHOT', view);
      }
      yield { is: 'SYNCED', host: HOST, starting: [], position: { epoch: EPOCH, at: 7 } };
      yield { is: 'COMPLETE' };
      // As the service does by itself: the latest numbers, once a second.
      for await (const _ of setInterval(1000, undefined, { signal })) {
        yield* this.tells.splice(0);
        if (!this.hasNumbers) continue;
        for (const view of this.#all()) if (!hasEnded(view.job)) yield this.#told('PROGRESS', view);
        this.rounds += 1;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.streams -= 1;
    }
  }

  #told(type: 'SNAPSHOT' | 'PROGRESS', view: JobView): JobsMessage {
    return {
      is: 'EVENT',
      host: HOST,
      event: new JobEvent({ ...view, type, time: new Date().toISOString(), detail: '' }),
    };
  }

  #domains(): Domain[] {
    return Array.from({ length: this.#shape.running + this.#shape.ended }, (_, index) => ({
      name: this.#nameOf(index),
      uuid: undefined,
      host: HOST,
      connection: { up: true, qemuVersion: '10.0.2', qemuPid: 1000 + index, guestState: 'RUNNING' },
    }));
  }

  #nameOf(index: number): string {
    return this.#shape.domainName?.(index) ?? `web${index + 1}`;
  }

  #view(index: number, state: State): JobView {
    const { job } = VIEW;
    const domain = this.#nameOf(index);
    const [from, to] = [`/srv/vm/${domain}/disk.qcow2`, `/mnt/fast/${domain}/disk.qcow2`];
    const accepted = {
      ...job.accepted,
      job: `bj${String(index).padStart(16, '0')}`,
      domain,
      disk: 'virtio0',
      source: { path: from },
      destination: { target: { kind: 'file', path: to }, format: 'QCOW2' },
    } as const;
    const createTime = new Date(this.#began - (index + 2) * 60_000).toISOString();
    const outcome = { ...job.outcome, guestWritesTo: from, destinationContent: 'PARTIAL' } as const;
    return { job: { ...job, accepted, state, createTime, revision: 7, outcome }, progress: undefined };
  }

  #running(index: number): JobView {
    const kinds = ['RUNNING', 'RUNNING', 'RUNNING', 'READY', 'RUNNING', 'PIVOTING', 'RUNNING'] as const;
    const state = kinds[index % kinds.length] ?? 'RUNNING';
    const view = this.#view(index, state);
    const isPaused = state === 'RUNNING' && index % 17 === 4;
    const isDiverging = state === 'RUNNING' && index % 23 === 8;
    const seconds = (Date.now() - this.#began) / 1000;
    const wave = Math.sin(seconds / 3 + index);
    const endBytes = (20 + (index % 13) * 6) * GIB;
    const bytesPerSecond = isPaused ? 0 : Math.round((110 + (index % 7) * 35 + 18 * wave) * MIB);
    const dirtyBytesPerSecond = Math.round((isDiverging ? 420 : 3 + (index % 5) * 2 + wave) * MIB);
    const done = state === 'RUNNING' ? 0.05 + ((index * 37) % 90) / 100 : 1;
    const currentBytes = Math.min(endBytes, Math.round(endBytes * done + (isPaused ? 0 : seconds * bytesPerSecond)));
    const remainingBytes = endBytes - currentBytes;
    const isReady = state !== 'RUNNING';
    const job = {
      ...view.job,
      ...(isPaused ? { pauseReason: 'NO_SPACE' as const } : {}),
      ...(isReady ? { readyTime: view.job.createTime } : {}),
      ...(isDiverging ? helped(view.job) : {}),
      outcome: { ...view.job.outcome, destinationContent: isReady ? ('MIRRORED' as const) : ('PARTIAL' as const) },
    };
    return {
      job,
      progress: {
        currentBytes,
        endBytes,
        percent: isReady ? 100 : Math.min(99.9, (100 * currentBytes) / endBytes),
        remainingBytes,
        bytesPerSecond: isReady ? dirtyBytesPerSecond : bytesPerSecond,
        dirtyBytesPerSecond,
        etaMs: isReady || isPaused || isDiverging ? undefined : Math.round((1000 * remainingBytes) / bytesPerSecond),
        convergence: isReady ? 'SETTLED' : isDiverging ? 'DIVERGING' : isPaused ? 'STALLED' : 'CONVERGING',
        floorBytes: isDiverging ? endBytes / 2 : 0,
        demandBytesPerSecond: dirtyBytesPerSecond,
        guestBytesPerSecond: dirtyBytesPerSecond,
        guestWriteBytes: 65_536,
        phase: isReady ? 'FOLLOWING' : 'COPYING',
        reason: isDiverging ? 'will not end at this rate: the guest writes 420.0 MiB/s in blocks of 64 KiB' : '',
        sampleTime: new Date().toISOString(),
      },
    };
  }

  #ended(index: number): JobView {
    const kinds = ['COMPLETED', 'COMPLETED', 'CANCELLED', 'COMPLETED', 'FAILED', 'COMPLETED', 'UNRESOLVED'] as const;
    const state = kinds[index % kinds.length] ?? 'COMPLETED';
    const view = this.#view(index, state);
    const { source, destination } = view.job.accepted;
    const to = destination?.target?.kind === 'file' ? destination.target.path : '';
    const endTime = new Date(new Date(view.job.createTime).getTime() + 95_000 + index * 1000).toISOString();
    const why = failure('NO_SPACE', { path: to, why: 'No space left on device; make room, and start it again' });
    const isCopied = state === 'COMPLETED';
    return {
      job: {
        ...view.job,
        endTime,
        failure: state === 'FAILED' ? why : undefined,
        outcome: {
          guestWritesTo: state === 'UNRESOLVED' ? undefined : isCopied ? to : source.path,
          destinationContent: isCopied ? 'COMPLETE' : state === 'UNRESOLVED' ? 'UNKNOWN' : 'PARTIAL',
          asOf: undefined,
          destinationRemoved: state === 'FAILED' || state === 'CANCELLED',
          safeToDelete: isCopied ? [{ path: source.path, warning: 'the running guest has left it' }] : [],
          evidence: [{ source: 'QEMU_GRAPH', text: `the device is on ${isCopied ? to : source.path}`, revision: 7 }],
        },
      },
      progress: undefined,
    };
  }
}

/** A copy that does not end, and the steps of its end policy. */
function helped({ accepted, createTime: time }: JobView['job']): Partial<JobView['job']> {
  return {
    accepted: { ...accepted, options: { ...accepted.options, endPolicy: END_POLICY } },
    policySteps: [
      {
        what: 'LIMIT',
        because: 'the guest writes 420.0 MiB/s in blocks of 64 KiB, and 100.0 MiB/s are copied',
        remainingBytes: GIB,
        bytesPerSecond: 100 * MIB,
        bandwidthBytesPerSecond: END_POLICY.ceilingBytesPerSecond,
        revision: 5,
        time,
      },
    ],
    guestThrottle: { limitBytesPerSecond: 15 * MIB, since: time, group: accepted.job },
  };
}
