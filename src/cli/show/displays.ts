/** Displays for running jobs: bars on a terminal, lines elsewhere; or, for programs, the events themselves. */
import { fromMs, type Job, type JobEvent, JobEvent_Kind, type Retry } from '../../client/index.ts';
import type { CliRun } from '../session.ts';
import { Bars } from './bars.ts';
import type { Display } from './display.ts';
import { diskOf, progressOf, stateOf } from './job.ts';
import { jsonOfEvent } from './json.ts';

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

function lostInWords(why: string): string {
  return `the service does not answer (${why}); the jobs continue, and so does this command when it is back`;
}
