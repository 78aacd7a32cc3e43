/** Displays for running jobs: bars on a terminal, lines elsewhere; or, for programs, the events themselves. */
import cliProgress from 'cli-progress';
import { Convergence, fromMs, type Job, type JobEvent, JobEvent_Kind, type Retry } from '../../client/index.ts';
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

const NO_END: readonly Convergence[] = [Convergence.CONVERGENCE_STALLED, Convergence.CONVERGENCE_DIVERGING];
/** The width of a terminal that does not report its own. */
const USUAL_COLUMNS = 80;

/** One bar per job, on a terminal. */
class Bars implements Display {
  readonly progressInterval = fromMs(250);
  readonly #columns: number;
  readonly #bars: cliProgress.MultiBar;
  readonly #of = new Map<string, cliProgress.SingleBar>();
  readonly #convergences = new Map<string, Convergence>();
  #width = 0;
  #lost: string | undefined;

  constructor({ terminal }: CliRun) {
    this.#columns = terminal.stderr.columns ?? USUAL_COLUMNS;
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
    this.#explain(disk, job);
  }

  /** Above the bars, because a bar is cut off at the edge of the terminal; and not again while only its numbers change. */
  #explain(disk: string, { id, progress }: Job): void {
    const { convergence = Convergence.CONVERGENCE_UNSPECIFIED, reason = '' } = progress ?? {};
    if (this.#convergences.get(id) === convergence) return;
    this.#convergences.set(id, convergence);
    if (!NO_END.includes(convergence)) return;
    for (const line of folded(`${disk}  ${visible(reason)}`, this.#columns)) this.#bars.log(`${line}\n`);
  }

  lost({ error }: Retry): void {
    if (this.#lost === error.message) return;
    this.#lost = error.message;
    const rest = `  no answer, trying again: ${visible(error.message)}`;
    for (const bar of this.#of.values()) bar.update({ rest });
  }

  close(): void {
    // Writes the lines that are still to come.
    if (this.#of.size > 0) this.#bars.update();
    this.#bars.stop();
  }
}

/** The text as lines that are shorter than the terminal is wide. */
function folded(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.pop();
    const longer = last === undefined ? word : `${last} ${word}`;
    if (last === undefined || longer.length < columns) lines.push(longer);
    else lines.push(last, `    ${word}`);
  }
  return lines;
}

function lostInWords(why: string): string {
  return `the service does not answer (${why}); the jobs continue, and so does this command when it is back`;
}
