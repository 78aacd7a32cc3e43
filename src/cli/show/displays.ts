/** Displays for running jobs: bars on a terminal, lines elsewhere; or, for programs, the events themselves. */
import cliProgress from 'cli-progress';
import { fromMs, type Job, type JobEvent, JobEvent_Kind, type Retry } from '../../client/index.ts';
import type { CliRun } from '../run.ts';
import { amountsOf, diskOf, progressOf, stateOf } from './job.ts';
import { jsonOfEvent } from './json.ts';
import { visible } from './visible.ts';

export interface Display {
  /** How often progress is shown. */
  readonly progressInterval: ReturnType<typeof fromMs>;
  show(event: JobEvent, job: Job): void;
  /** The service does not answer. */
  lost(retry: Retry): void;
  close(): void;
}

export function displayFor(session: CliRun, { isVerbose }: { isVerbose: boolean }): Display {
  if (session.isJson) return new Objects(session, isVerbose);
  if (!isVerbose) return new Quiet(session);
  return session.terminal.stderr.isTTY === true ? new Bars(session) : new Lines(session);
}

/** Shows only that the service is away, and once. */
class Quiet implements Display {
  readonly progressInterval = fromMs(60_000);
  readonly session: CliRun;
  #isLost = false;

  constructor(session: CliRun) {
    this.session = session;
  }

  show(_event: JobEvent, _job: Job): void {
    if (this.#isLost) this.session.note('the service is back');
    this.#isLost = false;
  }

  lost({ error }: Retry): void {
    if (!this.#isLost) this.session.note(lostInWords(error.message));
    this.#isLost = true;
  }

  close(): void {}
}

/** One line for each change of state, and now and then one for the progress. */
class Lines extends Quiet {
  override readonly progressInterval = fromMs(5000);
  readonly #states = new Map<string, string>();

  override show(event: JobEvent, job: Job): void {
    super.show(event, job);
    const state = stateOf(job);
    const isProgress = event.kind === JobEvent_Kind.KIND_PROGRESS;
    if (!isProgress && this.#states.get(job.id) === state) return;
    this.#states.set(job.id, state);
    const time = event.time?.toISOString().slice(11, 19) ?? '';
    this.session.note([time, diskOf(job), state, progressOf(job)].filter((part) => part !== '').join('  '));
  }
}

class Objects extends Quiet {
  override readonly progressInterval = fromMs(1000);
  readonly #withProgress: boolean;

  constructor(session: CliRun, withProgress: boolean) {
    super(session);
    this.#withProgress = withProgress;
  }

  override show(event: JobEvent, job: Job): void {
    super.show(event, job);
    const isProgress = event.kind === JobEvent_Kind.KIND_PROGRESS || event.kind === JobEvent_Kind.KIND_HEARTBEAT;
    if (isProgress && !this.#withProgress) return;
    this.session.tell({ type: 'event', event: jsonOfEvent(event) }, []);
  }
}

/** One bar per job, on a terminal. */
class Bars implements Display {
  readonly progressInterval = fromMs(250);
  readonly #bars: cliProgress.MultiBar;
  readonly #of = new Map<string, cliProgress.SingleBar>();
  #width = 0;
  #lost: string | undefined;

  constructor({ terminal }: CliRun) {
    this.#bars = new cliProgress.MultiBar({
      format: '{disk}  {bar} {percent} %  {state}{rest}',
      stream: terminal.stderr,
      barsize: 30,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
      // Signals are handled elsewhere.
      gracefulExit: false,
    });
  }

  show(_event: JobEvent, job: Job): void {
    this.#lost = undefined;
    const disk = visible(diskOf(job));
    this.#width = Math.max(this.#width, disk.length);
    const percent = job.progress?.percent ?? 0;
    const payload = {
      disk: disk.padEnd(this.#width),
      percent: percent.toFixed(1).padStart(5),
      state: stateOf(job),
      rest: job.progress === undefined ? '' : `  ${amountsOf(job.progress).join('  ')}`,
    };
    const bar = this.#of.get(job.id);
    if (bar === undefined) this.#of.set(job.id, this.#bars.create(100, percent, payload));
    else bar.update(percent, payload);
  }

  lost({ error }: Retry): void {
    if (this.#lost === error.message) return;
    this.#lost = error.message;
    const rest = `  no answer, trying again: ${visible(error.message)}`;
    for (const bar of this.#of.values()) bar.update({ rest });
  }

  close(): void {
    this.#bars.stop();
  }
}

function lostInWords(why: string): string {
  return `the service does not answer (${why}); the jobs continue, and so does this command when it is back`;
}
