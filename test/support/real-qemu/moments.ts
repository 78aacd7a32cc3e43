/**
 * Finds the point in time of a guest's disk that an image shows, by the guest's own log. For a disk with one stream
 * that only writes.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { GuestVm } from './guest-vm.ts';
import type { ChainImage } from './qemu.ts';

/**
 * Records all the time which writes the guest has acknowledged: so a time of the host's clock has its place in the log.
 */
export class AckedByTime implements Disposable {
  /** One for each time with more writes. */
  readonly #samples: { readonly timeMs: number; readonly sequence: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #log: number;
  readonly #acked: string;
  readonly #atRest: string;
  readonly #buffer = Buffer.alloc(1 << 20);
  #read = 0;
  #rest = '';
  #sequence = 0;
  #rests = 0;

  constructor(vm: GuestVm, disk: number) {
    this.#log = openSync(vm.logPath, 'r');
    this.#acked = `A ${disk} 0 `;
    this.#atRest = `I ${disk} 0 `;
    this.#timer = setInterval(() => {
      this.#readOn(); // before the clock is read: it was so at that time
      if (this.#samples.at(-1)?.sequence === this.#sequence) return;
      this.#samples.push({ timeMs: Date.now(), sequence: this.#sequence });
    }, 5);
  }

  /** The log grows by thousands of lines a second: each is read once. */
  #readOn(): void {
    for (let bytes = -1; bytes !== 0; this.#read += bytes) {
      bytes = readSync(this.#log, this.#buffer, 0, this.#buffer.length, this.#read);
      const lines = (this.#rest + this.#buffer.toString('latin1', 0, bytes)).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.startsWith(this.#acked)) this.#sequence = Number(line.slice(this.#acked.length));
        if (line.startsWith(this.#atRest)) this.#rests += 1;
      }
    }
  }

  /** The last operation that is acknowledged. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The number of times that the disk's writer has stopped. */
  get rests(): number {
    return this.#rests;
  }

  /** Each span in which the disk's writer has waited for more than `ms`, until now. */
  waits(ms: number): readonly { readonly fromMs: number; readonly toMs: number }[] {
    const times = [...this.#samples.map(({ timeMs }) => timeMs), Date.now()];
    const spans = times.slice(1).map((toMs, index) => ({ fromMs: times[index] ?? toMs, toMs }));
    return spans.filter(({ fromMs, toMs }) => toMs - fromMs > ms);
  }

  /** An operation that was acknowledged by then; the guest has done at most some milliseconds of work since. */
  at(time: Date): number {
    const sample = this.#samples.findLast(({ timeMs }) => timeMs < time.getTime());
    if (sample === undefined) throw new Error('nothing was noted before that time');
    return sample.sequence;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    closeSync(this.#log);
  }
}

/**
 * The operation at which the image is the whole disk, except for the running flush: it has all writes that were
 * acknowledged before, and none from after. Operation `from` is in the image for certain, and at most the flush after
 * `to`. Throws if there is none: the image is older, newer, or mixes points in time.
 */
export async function momentOf(
  vm: GuestVm,
  disk: number,
  { path: image, format }: ChainImage,
  { from, to, live = false }: { readonly from: number; readonly to: number; readonly live?: boolean },
): Promise<number> {
  const start = `A ${disk} 0 `;
  const flushes = vm.log().flatMap((line) => (line.startsWith(start) ? [Number(line.slice(start.length))] : []));
  const last = flushes.findIndex((sequence) => sequence > to);
  // Checked up to such a line, everything before it must be there; its own operations may be.
  let candidates = flushes.slice(0, last + 1).filter((sequence) => sequence > from);
  let text = 'there is no such operation';
  while (candidates.length > 0) {
    const middle = Math.floor(candidates.length / 2);
    const sequence = candidates[middle] ?? 0;
    const found = await vm.check(disk, { image, format, live, until: `${start}${sequence}` });
    if (found.lost === 0) return sequence;
    text = `as of operation ${sequence}:\n${found.text}`;
    const tooOld = found.stale + found.missing === found.lost;
    const tooNew = found.newer + found.residue === found.lost;
    candidates = tooOld ? candidates.slice(0, middle) : tooNew ? candidates.slice(middle + 1) : [];
  }
  throw new Error(`the image matches no point in time of disk ${disk} between operations ${from} and ${to}; ${text}`);
}
