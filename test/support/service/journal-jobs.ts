/**
 * Jobs of a host that are journals and nothing else: no QEMU has them. The messages to their watchers depend on nothing
 * else.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { HostJobs } from '../../../src/agent/desk/host-jobs.ts';
import { HostClock } from '../../../src/agent/host/host-clock.ts';
import { EndedJob } from '../../../src/agent/journal/ended-job.ts';
import { JobLog, type Journals } from '../../../src/agent/journal/job-log.ts';
import { JobsInMemory } from '../../../src/agent/journal/jobs-in-memory.ts';
import { orderOf } from '../../../src/agent/journal/order-file.ts';
import { openJobs } from '../../../src/agent/journal/start-up.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import type { Job } from '../../../src/core/job/job.ts';
import { publicJob } from '../../../src/core/job/job-view.ts';
import type { Accepted, EntryBody } from '../../../src/core/job/journal-entry.ts';
import type { Progress } from '../../../src/core/job/progress.ts';
import { parseWatchJobs } from '../../../src/core/rules/list.ts';
import { followJobs, withComplete } from '../../../src/watch/follow-jobs.ts';
import { ACCEPTED } from '../../unit/core/stories.ts';

const logger = pino({ level: 'silent' });

export class JournalJobs implements Pick<BlockJobs, 'watchJobs'>, AsyncDisposable {
  readonly known = new JobsInMemory(logger);
  readonly hostJobs: HostJobs;
  /** The progress of running jobs. */
  readonly progress = new Map<string, Progress>();
  readonly #host: string;
  readonly #journals: Journals;
  #count = 0;

  private constructor(host: string, journals: Journals, recent: number | undefined) {
    this.#host = host;
    this.#journals = journals;
    const options = {
      host,
      clock: journals.clock,
      jobs: { known: this.known, complete: async () => await Promise.resolve() },
      views: {
        now: async (logs: readonly JobLog[]) =>
          await Promise.resolve(logs.map(({ job }) => ({ job: publicJob(job), progress: undefined }))),
      },
      progresses: {
        of: ({ accepted }: Job) => this.progress.get(accepted.job),
        poll: () => ({ [Symbol.dispose]: () => undefined }),
      },
    };
    this.hostJobs = new HostJobs(options, recent);
  }

  /** With the existing jobs. */
  static async open(dir: string, host: string, recent?: number): Promise<JournalJobs> {
    const folder = join(dir, 'jobs');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const journals = { folder, clock: new HostClock() };
    const jobs = new JournalJobs(host, journals, recent);
    const found = await openJobs(journals, logger);
    for (const log of found.jobs) jobs.known.set(log.job.accepted.job, log);
    jobs.hostJobs.epoch = await orderOf(dir, journals.clock);
    return jobs;
  }

  /** As the table of jobs does. */
  async begin(more: Partial<Accepted> = {}): Promise<JobLog> {
    using _turn = this.#journals.clock.order.enter();
    const job = more.job ?? `bj${(this.#count++).toString(16).padStart(16, '0')}`;
    const log = await JobLog.begin(this.#journals, { ...ACCEPTED, host: this.#host, ...more, job });
    this.known.set(job, log);
    return log;
  }

  async write(log: JobLog, ...entries: readonly EntryBody[]): Promise<void> {
    for (const entry of entries) await log.append(entry);
    if (!log.ended) return;
    await log.close();
    this.known.set(log.job.accepted.job, EndedJob.of(this.#journals, log));
  }

  /** A start that failed. */
  async refuse(log: JobLog, why: EntryBody): Promise<void> {
    await log.append(why);
    this.known.delete(log.job.accepted.job);
    this.hostJobs.refused();
    await log.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.known.active.map(async (log) => await log.close()));
  }

  readonly watchJobs: BlockJobs['watchJobs'] = (request, call) => {
    const intervalMs = parseWatchJobs(request);
    const after = request.positions.get(this.#host);
    return withComplete(followJobs(this.hostJobs, { ...request, after, intervalMs, call }));
  };
}

/** The messages of a watch of all jobs, until the test has seen enough; `positions` to continue after them. */
export class JobsWatcher {
  readonly seen: string[] = [];
  positions: ReadonlyMap<string, { readonly epoch: string; readonly at: number }> = new Map();
  readonly #end = new AbortController();
  readonly #done: Promise<void>;
  readonly #waiting = new Set<() => void>();

  constructor(
    jobs: Pick<BlockJobs, 'watchJobs'>,
    request: Partial<Parameters<BlockJobs['watchJobs']>[0]> = {},
    more: Partial<Parameters<BlockJobs['watchJobs']>[1]> = {},
  ) {
    const asked = { domain: '', positions: new Map(), progressIntervalMs: 3_600_000, ...request };
    this.positions = asked.positions;
    this.#done = this.#read(jobs.watchJobs(asked, { ...more, signal: this.#end.signal }));
  }

  async #read(messages: ReturnType<BlockJobs['watchJobs']>): Promise<void> {
    for await (const message of messages) {
      this.seen.push(inWords(message));
      const { positions } = this;
      if ('position' in message && message.position !== undefined)
        this.positions = new Map([...positions, [message.host, message.position]]);
      if (message.is === 'HEARTBEAT') this.positions = new Map([...positions, ...message.positions]);
      for (const wake of this.#waiting) wake();
    }
  }

  /** Resolves when it has seen this, the given number of times. */
  async until(what: string | RegExp, times = 1): Promise<void> {
    const fits = (text: string) => (typeof what === 'string' ? text === what : what.test(text));
    while (this.seen.filter(fits).length < times) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await Promise.race([promise, this.#done]);
      this.#waiting.delete(resolve);
    }
  }

  async leave(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }
}

type Message = ReturnType<BlockJobs['watchJobs']> extends AsyncIterable<infer One> ? One : never;

function inWords(message: Message): string {
  switch (message.is) {
    case 'EVENT': {
      const { type, job } = message.event;
      return `${type} ${job.accepted.job.replace(/^bj0*(?=.)/, '')}:${job.revision}`;
    }
    case 'SNAPSHOT':
      return `snapshot of ${message.host}${message.lost === undefined ? '' : ', compacted'}`;
    case 'SYNCED':
      return `synced ${[message.host, ...message.starting.map((job) => job.replace(/^bj0*(?=.)/, ''))].join(' ')}`;
    case 'UNREACHABLE':
      return `unreachable ${message.host}: ${message.why.reason}`;
    case 'COMPLETE':
      return 'complete';
    case 'HEARTBEAT':
      return 'heartbeat';
  }
}
