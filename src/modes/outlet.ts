/**
 * Standard output or error, written to and never waited for: who reads it may be slow, stuck or gone, and the disk below it
 * full. What cannot be written yet is kept, up to a bound; what comes then is left out, counted, and told of in its place.
 */
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** Minutes of a busy service. */
const MOST_BYTES = 1024 * 1024;
/** A reader that is slow. */
const BUSY_MS = 20;
/** A reader that is gone, or a disk that is full: it may be there again, as that of a FIFO. */
const BROKEN_MS = 1000;

type Tried = 'WRITTEN' | 'BUSY' | 'BROKEN';

export class Outlet {
  /** Told when all that was kept is written: how much is missing from here. May write. */
  onGap: (lines: number) => void = () => undefined;
  readonly #target: Target;
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #missing = 0;
  #dropped = 0;
  /** Somebody writes already, or will. */
  #isUnderWay = false;
  /** A thread has the first of what is kept, and writes it to its end also when the process ends. */
  #isAside = false;

  constructor(fd: 1 | 2) {
    this.#target = targetOf(fd);
  }

  /** How many lines were left out, ever. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Takes a line, or leaves it out. Never throws. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    // Once a line is missing so are those behind it, until that is told: else nobody knew where.
    if (this.#missing > 0 || this.#keptBytes + bytes.length > MOST_BYTES) {
      this.#missing += 1;
      this.#dropped += 1;
      return;
    }
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    if (!this.#isUnderWay) this.#goOn();
  }

  /** For the end of the process, which nothing follows: writes what is kept, as far as it can be written in this time. */
  flush(limitMs: number): void {
    const end = performance.now() + limitMs;
    this.#isUnderWay = true;
    if (this.#isAside) this.#kept.shift();
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const tried = this.#try(next);
      if (tried === 'BROKEN' || (tried === 'BUSY' && performance.now() >= end)) break;
      if (tried === 'BUSY') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_MS);
    }
  }

  #goOn(): void {
    this.#isUnderWay = true;
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      if (this.#target.mayHang) return this.#writeAside();
      const tried = this.#try(next);
      if (tried !== 'WRITTEN') return this.#goOnIn(tried === 'BUSY' ? BUSY_MS : BROKEN_MS);
    }
    this.#isUnderWay = false;
  }

  #goOnIn(ms: number): void {
    // A process that has nothing else to do ends: `flush` is its last word.
    setTimeout(() => this.#goOn(), ms).unref();
  }

  /** In a thread of Node's: the storage of a file may hang. */
  #writeAside(): void {
    const all = Buffer.concat(this.#kept);
    this.#kept = [all];
    this.#isAside = true;
    write(this.#target.fd, all, (error, written) => {
      this.#isAside = false;
      if (error !== null) return this.#goOnIn(BROKEN_MS);
      this.#took(written);
      this.#goOn();
    });
  }

  #next(): Buffer | undefined {
    if (this.#kept.length === 0 && this.#missing > 0) {
      const missing = this.#missing;
      this.#missing = 0;
      this.onGap(missing);
    }
    return this.#kept[0];
  }

  #try(bytes: Buffer): Tried {
    try {
      this.#took(writeSync(this.#target.fd, bytes));
      return 'WRITTEN';
    } catch (error) {
      return error instanceof Error && 'code' in error && error.code === 'EAGAIN' ? 'BUSY' : 'BROKEN';
    }
  }

  #took(written: number): void {
    const [first, ...others] = this.#kept;
    if (first === undefined) return;
    this.#keptBytes -= written;
    this.#kept = written < first.length ? [first.subarray(written), ...others] : others;
  }
}

interface Target {
  readonly fd: number;
  /** The kernel may keep a writer waiting. */
  readonly mayHang: boolean;
  /** Closes its descriptor when nobody has it any more. */
  readonly keep?: Socket;
}

function targetOf(fd: 1 | 2): Target {
  const stats = fstatSync(fd);
  const again = stats.isFIFO() || stats.isCharacterDevice() ? withoutWaiting(fd) : undefined;
  if (again !== undefined) return { fd: again, mayHang: false };
  if (!stats.isFIFO() && !stats.isSocket()) return { fd, mayHang: true };
  // Node makes it one that says EAGAIN. So it is for all who have it, which a socket of systemd's is for us alone.
  return { fd, mayHang: false, keep: new Socket({ fd, readable: false, writable: true }) };
}

/** The same pipe or terminal, opened once more: the descriptor that we were given others have, too, who want to wait. */
function withoutWaiting(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // There is no /proc, or it belongs to another user.
    return undefined;
  }
}
