/** One bar per job, on a terminal. */
import cliProgress from 'cli-progress';
import { fromMs, type Job, type JobEvent, type Retry } from '../../client/index.ts';
import type { CliRun } from '../session.ts';
import type { Display } from './display.ts';
import { amountsOf, diskOf, stateOf } from './job.ts';
import { visible } from './visible.ts';

export class Bars implements Display {
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
