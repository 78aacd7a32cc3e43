// Bytes to JSON messages and back: QMP's framing, one JSON object a line.

import { FramingError } from './errors.ts';

const newline = 0x0a;
const defaultMaxMessageBytes = 64 * 1024 * 1024;

/**
 * Cuts the incoming bytes, in any fragmentation, into JSON messages.
 *
 * QEMU ends each message with CRLF (QEMU docs/interop/qmp-spec). A monitor with `pretty=on` breaks it over many
 * lines: the first is `{` alone, the last `}` alone, and those between are indented. A chunk is looked at once
 * and a line is joined once, so the time is linear in the bytes however they arrive. A line is decoded only when
 * it is whole, so a character that two chunks share is never cut.
 *
 * Numbers: QEMU's integers have 64 bits, JSON.parse keeps 53. A `speed` may be 2^63-1: it arrives as the
 * nearest double, and whoever uses such a field has to clamp it.
 */
export class Framing {
  readonly #maxMessageBytes: number;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #parts: Buffer[] = [];
  #messageBytes = 0;
  /** Those of a message that has more lines to come. */
  readonly #lines: string[] = [];
  #broken: FramingError | undefined;

  /** `maxMessageBytes`: the longest message that is accepted, 64 MiB unless told. */
  constructor(limits: { readonly maxMessageBytes?: number } = {}) {
    this.#maxMessageBytes = limits.maxMessageBytes ?? defaultMaxMessageBytes;
  }

  /** Bytes of a message that has begun and not ended. Above 0 at the end of the stream: it was cut off. */
  get unfinishedBytes(): number {
    return this.#messageBytes;
  }

  /**
   * The messages that this chunk completes, in order; blank lines are skipped. Keeps a reference to the
   * chunk. Throws FramingError at a line that is not JSON or too long, and ever after: there is no way to
   * find the beginning of the next message.
   */
  push(chunk: Buffer): unknown[] {
    if (this.#broken !== undefined) throw this.#broken;
    const messages: unknown[] = [];
    try {
      let start = 0;
      for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
        this.#keep(chunk.subarray(start, end));
        const message = this.#takeMessage();
        if (message !== undefined) messages.push(JSON.parse(message));
        start = end + 1;
      }
      if (start < chunk.length) this.#keep(chunk.subarray(start));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#parts = [];
      this.#broken = new FramingError(`Not a QMP message: ${reason}`, messages, { cause: error });
      throw this.#broken;
    }
    return messages;
  }

  #keep(part: Buffer): void {
    this.#messageBytes += part.length;
    if (this.#messageBytes > this.#maxMessageBytes) {
      throw new RangeError(`it is longer than ${this.#maxMessageBytes} bytes`);
    }
    this.#parts.push(part);
  }

  /** What the line that has just ended makes whole; undefined: nothing yet. */
  #takeMessage(): string | undefined {
    const line = this.#decoder.decode(Buffer.concat(this.#parts)).replace(/\r$/, '');
    this.#parts = [];
    if (this.#lines.length > 0 || line === '{') {
      this.#lines.push(line);
      if (line !== '}') return undefined;
    }
    this.#messageBytes = 0;
    const message = this.#lines.length === 0 ? line : this.#lines.splice(0).join('\n');
    return message.trim() === '' ? undefined : message;
  }
}

/**
 * One message as a line. QEMU needs no line end, people who read a trace do.
 * Throws TypeError for what JSON cannot say (a bigint, a cycle).
 */
export function encode(message: unknown): string {
  return `${JSON.stringify(message)}\n`;
}
