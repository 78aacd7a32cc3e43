// The messages of QMP to and from QEMU, as types.
// Source: QEMU docs/interop/qmp-spec. Members that are not known are ignored, as the specification asks.

const MOST_CHARACTERS = 4096;

/** Any QMP command: this folder knows the protocol, not the commands. */
export interface Command {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

export interface QmpEvent {
  readonly event: string;
  /** Empty if QEMU sent none. */
  readonly data: Readonly<Record<string, unknown>>;
  /** QEMU's wall clock; undefined if its host could not read it. */
  readonly timestamp: { readonly seconds: number; readonly microseconds: number } | undefined;
}

/** The first message of a connection. Capabilities: `oob` or nothing, so far. */
export interface Greeting {
  readonly version: {
    readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
    readonly package: string;
  };
  readonly capabilities: readonly string[];
}

/** An answer. An error has no id if QEMU could not read its command. */
export type Reply =
  | { readonly kind: 'return'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly qemuClass: string; readonly desc: string };

export type Message =
  | Reply
  | { readonly kind: 'greeting'; readonly greeting: Greeting }
  | { readonly kind: 'event'; readonly event: QmpEvent }
  | { readonly kind: 'unknown' };

/** The kind of this message; `unknown` for everything that QMP does not define. Never throws. */
export function readMessage(message: unknown): Message {
  if (!isRecord(message)) return { kind: 'unknown' };
  if ('QMP' in message) return readGreeting(message['QMP']);
  if (typeof message['event'] === 'string') return readEvent(message['event'], message);
  if ('return' in message) return { kind: 'return', id: message['id'], value: message['return'] };
  if (isRecord(message['error'])) return readError(message['id'], message['error']);
  return { kind: 'unknown' };
}

function readGreeting(greeting: unknown): Message {
  const version = member(greeting, 'version');
  const qemu = member(version, 'qemu');
  const major = member(qemu, 'major');
  const minor = member(qemu, 'minor');
  const micro = member(qemu, 'micro');
  const capabilities = member(greeting, 'capabilities');
  if (typeof major !== 'number' || typeof minor !== 'number' || typeof micro !== 'number') {
    return { kind: 'unknown' };
  }
  return {
    kind: 'greeting',
    greeting: {
      version: { qemu: { major, minor, micro }, package: cutWords(text(member(version, 'package'))) },
      capabilities: Array.isArray(capabilities) ? capabilities.filter((name) => typeof name === 'string') : [],
    },
  };
}

function readEvent(event: string, message: Readonly<Record<string, unknown>>): Message {
  const data = message['data'];
  const seconds = member(message['timestamp'], 'seconds');
  const microseconds = member(message['timestamp'], 'microseconds');
  // QEMU sends -1 for both if its host's clock cannot be read.
  const isTime = typeof seconds === 'number' && typeof microseconds === 'number' && seconds >= 0;
  return {
    kind: 'event',
    event: {
      event,
      data: isRecord(data) ? data : {},
      timestamp: isTime ? { seconds, microseconds } : undefined,
    },
  };
}

function readError(id: unknown, error: Readonly<Record<string, unknown>>): Message {
  return { kind: 'error', id, qemuClass: cutWords(text(error['class'])), desc: cutWords(text(error['desc'])) };
}

/** It goes into logs, journals and answers: no sentence of QEMU is as long. */
export function cutWords(words: string): string {
  return words.length <= MOST_CHARACTERS ? words : `${words.slice(0, MOST_CHARACTERS)}…`;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function member(value: unknown, name: string): unknown {
  return isRecord(value) ? value[name] : undefined;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
