/** The output of the demo: numbered steps with the elapsed seconds, lines below them, and one progress bar. */
import { SingleBar } from 'cli-progress';
import type { Progress } from '../../generated/blockjob/v1/job.ts';

/** Without a terminal the bar is one line for each such step. */
const LINE_EVERY_PERCENT = 20;

function mib(bytes: bigint): string {
  return (Number(bytes) / 1024 ** 2).toFixed(0);
}

export class Screen {
  #from = performance.now();
  #steps = 0;
  #bar: SingleBar | undefined;
  #lastLine = 0;
  #muted = false;

  /** The clock starts now. */
  restart(): void {
    this.#from = performance.now();
  }

  get seconds(): number {
    return (performance.now() - this.#from) / 1000;
  }

  step(title: string): void {
    this.#steps += 1;
    this.#print(`\n${this.#steps}. ${title.padEnd(68)}${this.seconds.toFixed(1).padStart(6)} s`);
  }

  line(text: string): void {
    for (const part of text.split('\n')) this.#print(`   ${part}`.trimEnd());
  }

  plain(text: string): void {
    this.#print(text);
  }

  progress({ percent, currentBytes, endBytes, bytesPerSecond }: Progress): void {
    if (this.#muted) return;
    const text = `${mib(currentBytes)} of ${mib(endBytes)} MiB, ${mib(bytesPerSecond)} MiB/s`;
    if (process.stdout.isTTY) {
      this.#bar ??= this.#newBar();
      this.#bar.update(Math.floor(percent), { text });
    } else if (percent >= this.#lastLine + LINE_EVERY_PERCENT && percent < 100) {
      this.#lastLine = percent - (percent % LINE_EVERY_PERCENT);
      this.line(`${percent.toFixed(0).padStart(3)} %  ${text}`);
    }
  }

  #newBar(): SingleBar {
    const bar = new SingleBar({
      format: '   {bar} {percentage} %  {text}',
      stream: process.stdout,
      barCompleteChar: '#',
      barIncompleteChar: '.',
      hideCursor: true,
      gracefulExit: false, // the demo itself looks after signals
    });
    bar.start(100, 0, { text: '' });
    return bar;
  }

  #print(text: string): void {
    this.#endBar();
    if (!this.#muted) process.stdout.write(`${text}\n`);
  }

  #endBar(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  /** Shows nothing more: the demo is being ended, and its work may fail in its own time. */
  mute(): void {
    this.#endBar();
    this.#muted = true;
  }
}
