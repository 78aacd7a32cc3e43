/**
 * Standard output or error without waiting: its reader may be slow, stuck or gone, and its disk full. Text that cannot
 * be written yet is kept, up to a bound; later text is dropped, counted, and reported in its place.
 */
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** Minutes of a busy service. */
const MOST_BYTES = 1024 * 1024;
/** The retry for a slow reader. */
const BUSY_MS = 20;
/** The retry for a reader that is gone, or a full disk: it may come back, for example at a FIFO. */
const BROKEN_MS = 1000;

type Tried = 'WRITTEN' | 'BUSY' | 'BROKEN';

export class Outlet {
  /** Called when all kept text is written, with the number of lines that are missing here. May write. */
  onGap: (lines: number) => void = () => undefined;
  readonly #target: Target;
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #missing = 0;
  #dropped = 0;
  /** A write is in progress, or scheduled. */
  #isUnderWay = false;
  /** A thread has the first part of the kept text, and writes it completely even if the process ends. */
  #isAside = false;

  constructor(fd: 1 | 2) {
    this.#target = targetOf(fd);
  }

  /** How many lines were ever dropped. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Takes a line, or drops it. Never throws. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    // After a missing line all others are dropped until that is reported, so that its place is known.
    if (this.#missing > 0 || this.#keptBytes + bytes.length > MOST_BYTES) {
      this.#missing += 1;
      this.#dropped += 1;
      return;
    }
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    if (!this.#isUnderWay) this.#goOn();
  }

  /** For the end of the process: writes the kept text, as far as that is possible in this time. */
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
    // A process without other work ends: `flush` is its last word.
    setTimeout(() => this.#goOn(), ms).unref();
  }

  /** In a thread of Node: the storage of a file may hang. */
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
  /** The kernel may block a writer. */
  readonly mayHang: boolean;
  /** Closes its descriptor when nobody uses it any more. */
  readonly keep?: Socket;
}

function targetOf(fd: 1 | 2): Target {
  const stats = fstatSync(fd);
  const again = stats.isFIFO() || stats.isCharacterDevice() ? withoutWaiting(fd) : undefined;
  if (again !== undefined) return { fd: again, mayHang: false };
  if (!stats.isFIFO() && !stats.isSocket()) return { fd, mayHang: true };
  // Node makes it non-blocking. That applies to all holders, and only we hold a socket from systemd.
  return { fd, mayHang: false, keep: new Socket({ fd, readable: false, writable: true }) };
}

/** The same pipe or terminal, opened again: others share the given descriptor, and want it to block. */
function withoutWaiting(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // /proc does not exist, or the file belongs to another user.
    return undefined;
  }
}
