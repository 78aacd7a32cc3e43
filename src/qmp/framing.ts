// Bytes to JSON messages and back: QMP's framing, one JSON object a line.

import { FramingError } from './errors.ts';

const NEWLINE = 0x0a;
const LONGEST_MESSAGE_BYTES = 16 * 1024 * 1024;
/** The memory that a value of a short message may use when it is read: only longer messages are counted before. */
const UNCOUNTED_BYTES = 1024 * 1024;
/** A QEMU with 10,000 nodes sends fewer; a message of brackets alone would become half a gigabyte of objects. */
const MOST_VALUES = 512 * 1024;
/** The memory of a line besides its bytes. */
const LINE_BYTES = 32;
const SMALL_BYTES = 16 * 1024;
/** Keeps nothing between two lines, which are whole. */
const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Cuts the incoming bytes, in any fragmentation, into JSON messages.
 *
 * QEMU ends each message with CRLF (QEMU docs/interop/qmp-spec). A monitor with `pretty=on` breaks it over many
 * lines: the first is `{` alone, the last `}` alone, and those between are indented. A chunk is looked at once
 * and a line is joined once, so the time is linear in the bytes however they arrive. A line is decoded only when
 * it is whole, so a character that two chunks share is never cut.
 *
 * Numbers: QEMU's integers have 64 bits, JSON.parse keeps 53. A `speed` may be 2^63-1: it arrives as the
 * nearest double, and a user of such a field has to clamp it.
 */
export class Framing {
  readonly #maxMessageBytes: number;
  readonly #hold: (bytes: number) => void;
  #parts: Buffer[] = [];
  #messageBytes = 0;
  /** Those of a message that has more lines to come. */
  readonly #lines: string[] = [];
  #broken: FramingError | undefined;

  /** `maxMessageBytes`: the longest accepted message, default 16 MiB. `hold`: called with the length of the present one. */
  constructor(limits: { readonly maxMessageBytes?: number; readonly hold?: (bytes: number) => void } = {}) {
    this.#maxMessageBytes = limits.maxMessageBytes ?? LONGEST_MESSAGE_BYTES;
    this.#hold = limits.hold ?? (() => {});
  }

  /** Bytes of an incomplete message. Above 0 at the end of the stream if it was cut off. */
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
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        this.#keep(chunk.subarray(start, end));
        const message = this.#takeMessage();
        if (message !== undefined) messages.push(parse(message));
        start = end + 1;
      }
      if (start < chunk.length) this.#keep(chunk.subarray(start));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.drop();
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
    this.#hold(this.#messageBytes + this.#lines.length * LINE_BYTES);
    this.#parts.push(part);
    // Many small pieces would cost more than their contents: pieces of similar size are joined.
    for (;;) {
      const [one, other] = [this.#parts.at(-2), this.#parts.at(-1)];
      if (one === undefined || other === undefined || one.length > other.length || other.length > SMALL_BYTES) return;
      this.#parts.splice(-2, 2, Buffer.concat([one, other]));
    }
  }

  /** Drops the incomplete message. */
  drop(): void {
    this.#parts = [];
    this.#lines.length = 0;
  }

  /** The message that the last line completes; undefined if there is none. */
  #takeMessage(): string | undefined {
    const line = DECODER.decode(Buffer.concat(this.#parts)).replace(/\r$/, '');
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

function parse(message: string): unknown {
  if (message.length > UNCOUNTED_BYTES && valuesIn(message) > MOST_VALUES)
    throw new RangeError(`it has more than ${MOST_VALUES} values`);
  return JSON.parse(message);
}

/** An upper bound, because characters inside texts are counted, too. */
function valuesIn(message: string): number {
  let values = 0;
  for (let at = 0; at < message.length; at += 1) {
    const char = message.charCodeAt(at);
    // , [ {
    if (char === 0x2c || char === 0x5b || char === 0x7b) values += 1;
  }
  return values;
}

/** One message as a line, for people who read a trace. Throws TypeError for what JSON cannot say (a bigint, a cycle). */
export function encode(message: unknown): string {
  return `${JSON.stringify(message)}\n`;
}
