/** The jobs and QEMUs of one host. */
import type { HostFigures } from '../core/figures.ts';
import type { Convergence } from '../core/job/convergence.ts';
import type { Job, JobState } from '../core/job/job.ts';
import type { PauseReason } from '../core/job/journal-entry.ts';
import type { DestinationContent } from '../core/job/outcome.ts';
import { outcomeOf } from '../core/job/outcome-of.ts';

import type { SpaceLevel } from '../core/job/space-told.ts';
import type { JobKind } from '../core/job-options.ts';
import type { Doing, Observer } from '../lib/observer.ts';
import { each, type Meters, secondsFrom } from './meters.ts';

const KINDS = each<JobKind>({ COPY: true, PULL: true, COMMIT: true, ACTIVE_COMMIT: true });
const ACTIVE = each<Exclude<JobState, Ended>>({
  STARTING: true,
  RUNNING: true,
  READY: true,
  PIVOTING: true,
  CANCELLING: true,
});
type Ended = 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
const ENDED = each<Ended>({ COMPLETED: true, CANCELLED: true, FAILED: true, UNRESOLVED: true });
const PAUSES = each<PauseReason>({ USER: true, NO_SPACE: true, IO_ERROR: true });
const SPACES = each<SpaceLevel>({ ENOUGH: true, LOW: true, FULL: true });
const CONVERGENCES = each<Convergence>({ CONVERGING: true, STALLED: true, DIVERGING: true, SETTLED: true });
const OUTCOMES = each<Exclude<DestinationContent, 'MIRRORED'>>({
  COMPLETE: true,
  PARTIAL: true,
  STALE: true,
  UNKNOWN: true,
});
const LEFTOVERS = each<HostFigures['leftovers'][number]>({ FILE: true, NODE: true, QEMU_JOB: true, THROTTLE: true });
/** The value for a job without a copy. */
const NO_COPY = 'NONE';

export class HostMeters implements Observer {
  readonly #ended;
  readonly #pivot;
  readonly #commands;
  readonly #syncs;

  /** `look` is called before each answer. */
  constructor(meters: Meters, look: () => Promise<HostFigures>) {
    this.#ended = meters.counter(
      'jobs_ended_total',
      'Jobs that ended, by kind, by how they ended, and by the state of the destination.',
      ['kind', 'state', 'outcome'],
    );
    // A counter that does not exist before its first event hides that event from increase().
    for (const kind of KINDS) {
      const outcomes = kind === 'COPY' || kind === 'ACTIVE_COMMIT' ? OUTCOMES : [NO_COPY];
      for (const state of ENDED) for (const outcome of outcomes) this.#ended.inc({ kind, state, outcome }, 0);
    }
    this.#pivot = meters.histogram(
      'ready_to_pivot_seconds',
      'Time from READY until the guest was on the destination, the clean-up included; it may contain the wait for a person.',
      secondsFrom(0.01, 86_400),
    );
    this.#commands = meters.histogram(
      'qmp_command_seconds',
      'How long QEMU took to answer a command, from the call on.',
      secondsFrom(0.001, 60),
      ['command'],
    );
    this.#syncs = meters.histogram(
      'journal_sync_seconds',
      'How long an entry of a journal took to reach stable storage.',
      secondsFrom(0.0001, 10),
    );
    this.#lookAtEach(meters, look);
  }

  during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
    return doing.does === 'qmp' || doing.does === 'sync' ? this.#timed(doing, work) : work();
  }

  async #timed<T>(doing: Extract<Doing, { does: 'qmp' | 'sync' }>, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    try {
      return await work();
    } finally {
      const seconds = (performance.now() - began) / 1000;
      if (doing.does === 'qmp') this.#commands.observe({ command: doing.command }, seconds);
      else this.#syncs.observe(seconds);
    }
  }

  /** A job has ended, and its clean-up is done. */
  ended(job: Job): void {
    const { accepted, state, pivotRequested, ready, ended } = job;
    this.#ended.inc({ kind: accepted.kind, state, outcome: outcomeOf(job).destinationContent ?? NO_COPY });
    const [readyMs, endedMs] = [ready?.clock?.ms, ended?.clock?.ms];
    if (state !== 'COMPLETED' || !pivotRequested || readyMs === undefined || endedMs === undefined) return;
    this.#pivot.observe((endedMs - readyMs) / 1000);
  }

  #lookAtEach(meters: Meters, look: () => Promise<HostFigures>): void {
    const jobs = meters.gauge('jobs', 'Jobs that have not ended, by kind and state.', ['kind', 'state']);
    const paused = meters.gauge('jobs_paused', 'Jobs that are paused, by reason.', ['reason']);
    const spaces = meters.gauge('jobs_space', 'Jobs that have not ended, by the space at their destination.', [
      'level',
    ]);
    const free = meters.gauge(
      'destination_free_bytes',
      'Free bytes of the fullest file system with the destination of a running copy; absent if there is none.',
    );
    const convergence = meters.gauge(
      'jobs_convergence',
      'Jobs that have not ended and are not paused, by whether they will end at the present rates.',
      ['convergence'],
    );
    const current = meters.gauge(
      'jobs_current_bytes',
      'Bytes that the jobs that have not ended have copied, all together.',
      ['kind'],
    );
    const end = meters.gauge(
      'jobs_end_bytes',
      'Bytes that the jobs that have not ended have to copy, as known now, all together.',
      ['kind'],
    );
    const longestReady = meters.gauge(
      'longest_ready_seconds',
      'How long the longest-waiting READY job has been READY; 0 if none waits.',
    );
    const longestRecordWait = meters.gauge(
      'longest_record_wait_seconds',
      'How long the READY job has been READY whose pivot waits longest for a record; 0 if none waits.',
    );
    const slowed = meters.gauge('guests_slowed_down', 'Jobs that slow their guest down, so that they end.');
    const copied = meters.counter('copied_bytes_total', 'Bytes that jobs have copied.');
    const links = meters.gauge('qmp_links', 'QMP sockets, by whether their QEMU can be asked.', ['state']);
    const reconnects = meters.counter('qmp_reconnects_total', 'How often a lost QMP connection came back.');
    const watchers = meters.gauge('watchers', 'Watchers of jobs here.');
    const strayFiles = meters.gauge(
      'journal_stray_files',
      'Files in the folder of journals that are not journals, or not of a known job.',
    );
    const leftovers = meters.gauge(
      'leftovers',
      'Objects that jobs made and could not remove, by kind; determined once a minute at most.',
      ['kind'],
    );
    meters.beforeEach(async () => {
      const now = await look();
      for (const kind of KINDS) {
        const those = now.jobs.filter((job) => job.kind === kind);
        for (const state of ACTIVE) jobs.set({ kind, state }, those.filter((job) => job.state === state).length);
        current.set({ kind }, sum(those.map(({ progress }) => progress?.currentBytes ?? 0)));
        end.set({ kind }, sum(those.map(({ progress }) => progress?.endBytes ?? 0)));
      }
      for (const reason of PAUSES) {
        paused.set({ reason }, now.jobs.filter(({ pauseReason }) => pauseReason === reason).length);
      }
      for (const level of SPACES) spaces.set({ level }, now.jobs.filter(({ space }) => space === level).length);
      if (now.leastFreeBytes === undefined) free.remove();
      else free.set(now.leastFreeBytes);
      for (const one of CONVERGENCES) {
        const those = now.jobs.filter((job) => job.pauseReason === undefined && job.progress?.convergence === one);
        convergence.set({ convergence: one }, those.length);
      }
      longestReady.set(Math.max(0, ...now.jobs.map(({ readyForMs = 0 }) => readyForMs / 1000)));
      const waiting = now.jobs.filter(({ waitsForRecord }) => waitsForRecord);
      longestRecordWait.set(Math.max(0, ...waiting.map(({ readyForMs = 0 }) => readyForMs / 1000)));
      slowed.set(now.jobs.filter(({ slowsGuest }) => slowsGuest).length);
      setTo(copied, now.copiedBytes);
      links.set({ state: 'up' }, now.links.up);
      links.set({ state: 'down' }, now.links.down);
      setTo(reconnects, now.reconnects);
      watchers.set(now.watchers);
      strayFiles.set(now.strayFiles);
      for (const kind of LEFTOVERS) leftovers.set({ kind }, now.leftovers.filter((one) => one === kind).length);
    });
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** Values that are counted elsewhere. */
function setTo(counter: { reset(): void; inc(value: number): void }, value: number): void {
  counter.reset();
  counter.inc(value);
}
