/** The contents of a disk, byte by byte. They are recorded at each write, and QEMU is never asked. */
import type { Random } from '../support/random.ts';

export const SECTOR = 512;

/** A run of one byte value. */
export interface Extent {
  readonly at: number;
  readonly bytes: number;
  readonly byte: number;
}

export class Contents {
  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  static empty(sizeBytes: number): Contents {
    return new Contents(Buffer.alloc(sizeBytes));
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  write({ at, bytes, byte }: Extent): void {
    this.#bytes.fill(byte, at, at + bytes);
  }

  put(at: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, at);
  }

  /** The same in a disk of another size: a larger disk shows zeroes after the end of the smaller one. */
  resized(sizeBytes: number): Contents {
    const bytes = Buffer.alloc(sizeBytes);
    this.#bytes.copy(bytes);
    return new Contents(bytes);
  }

  copy(): Contents {
    return this.resized(this.sizeBytes);
  }

  /** The first difference; undefined if there is none. */
  differsFrom(other: Uint8Array): string | undefined {
    const size = this.sizeBytes;
    if (other.length !== size) return `${other.length} bytes instead of ${size}`;
    const at = this.#bytes.findIndex((byte, index) => byte !== other[index]);
    return at === -1 ? undefined : `at ${at} (sector ${at / SECTOR}) ${other[at]} instead of ${this.#bytes[at]}`;
  }

  /** A random extent of one byte value. */
  someExtent(random: Random): Extent {
    const at = random.below(Math.max(1, Math.floor(this.sizeBytes / SECTOR))) * SECTOR;
    const byte = this.#bytes[at] ?? 0;
    let end = at;
    while (end + SECTOR <= this.sizeBytes && this.#bytes.subarray(end, end + SECTOR).every((one) => one === byte)) {
      end += SECTOR;
    }
    return { at, bytes: end - at, byte };
  }
}
