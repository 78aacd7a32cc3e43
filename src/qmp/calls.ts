// The commands of one connection that have no answer yet, each with its caller and its time-out.
//
//              a slot is free         the reply
//   waiting ──────────────────► written ────────► return, or Refused
//      │ time-out, lost, unwanted  ├─ lost ──────► OutcomeUnknown 'disconnected'
//      ▼                           └─ time-out ──► OutcomeUnknown 'timeout'
//   NotSent                           its slot is kept: QEMU still has the command. Its late reply is dropped

import { NotSent, OutcomeUnknown, type QmpError, Refused } from './errors.ts';
import { encode } from './framing.ts';
import type { Command, Reply } from './messages.ts';

/**
 * At the eighth in its queue QEMU stops reading, out-of-band commands too (QEMU docs/interop/qmp-spec, "Out-of-band
 * execution"). That it takes one out to execute it does not count: while it hangs in a command of another monitor, all
 * of ours are in the queue. Without oob it reads one at a time and any bound would do; this one keeps the others here,
 * where a lost connection leaves them NotSent.
 */
const MOST_IN_BAND = 7;

/** setTimeout takes no more; a longer delay would fire at once. About 24 days. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

interface Call {
  readonly id: number;
  readonly command: string;
  readonly line: string;
  readonly atTurn: (() => boolean) | undefined;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: QmpError) => void;
  timedOut: boolean;
}

export class Calls {
  readonly #write: (line: string) => void;
  readonly #waiting = new Set<Call>();
  readonly #inBand = new Map<unknown, Call>();
  readonly #outOfBand = new Map<unknown, Call>();
  #lastId = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Writes the command as soon as fewer than seven are unanswered; resolves with QEMU's return value. */
  execute(command: Command, timeoutMs: number, atTurn?: () => boolean): Promise<unknown> {
    const send = (call: Call) => {
      this.#waiting.add(call);
      this.#writeWaiting();
    };
    return this.#call('execute', command, { timeoutMs, atTurn, send });
  }

  /** Writes the command at once, past all that wait. */
  executeOob(command: Command, timeoutMs: number): Promise<unknown> {
    const send = (call: Call) => {
      this.#outOfBand.set(call.id, call);
      this.#write(call.line);
    };
    return this.#call('exec-oob', command, { timeoutMs, atTurn: undefined, send });
  }

  /** Hands a reply to its caller; false when nobody waits for it: never asked, or timed out since. */
  settle(reply: Reply): boolean {
    const lane = this.#inBand.has(reply.id) ? this.#inBand : this.#outOfBand;
    const call = lane.get(reply.id);
    if (call === undefined) return false;
    lane.delete(reply.id);
    clearTimeout(call.timer);
    if (reply.kind === 'return') call.resolve(reply.value);
    else call.reject(new Refused(call.command, reply.qemuClass, reply.desc));
    this.#writeWaiting();
    return !call.timedOut;
  }

  /** The connection has ended: rejects all, the written ones as OutcomeUnknown and the others as NotSent. */
  lose(cause: QmpError): void {
    for (const call of [...this.#inBand.values(), ...this.#outOfBand.values()]) {
      clearTimeout(call.timer);
      call.reject(new OutcomeUnknown(call.command, 'disconnected', { cause }));
    }
    for (const call of this.#waiting) {
      clearTimeout(call.timer);
      call.reject(new NotSent(call.command, 'the connection ended while it waited for its turn', { cause }));
    }
    this.#inBand.clear();
    this.#outOfBand.clear();
    this.#waiting.clear();
  }

  #call(
    member: 'execute' | 'exec-oob',
    { execute: command, arguments: args }: Command,
    { timeoutMs, atTurn, send }: Pick<Call, 'atTurn'> & { timeoutMs: number; send: (call: Call) => void },
  ): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = ++this.#lastId;
    try {
      // Encoded now, so that the caller may change its arguments afterwards.
      const line = encode({ [member]: command, arguments: args, id });
      const timer = setTimeout(() => this.#expire(call), Math.min(timeoutMs, LONGEST_TIMEOUT_MS));
      const call: Call = { id, command, line, atTurn, timer, resolve, reject, timedOut: false };
      send(call);
    } catch (cause) {
      reject(new NotSent(command, 'its arguments cannot be written as JSON', { cause }));
    }
    return promise;
  }

  #writeWaiting(): void {
    for (const call of this.#waiting) {
      if (this.#inBand.size >= MOST_IN_BAND) return;
      this.#waiting.delete(call);
      if (call.atTurn?.() === false) {
        clearTimeout(call.timer);
        call.reject(new NotSent(call.command, 'it is not wanted any more'));
        continue;
      }
      this.#inBand.set(call.id, call);
      this.#write(call.line);
    }
  }

  #expire(call: Call): void {
    if (this.#waiting.delete(call)) {
      call.reject(new NotSent(call.command, `${MOST_IN_BAND} commands before it had no answer until its time-out`));
      return;
    }
    call.timedOut = true;
    call.reject(new OutcomeUnknown(call.command, 'timeout'));
  }
}
