// Errors of a QEMU and of the connection to it, by the conclusion that the caller may draw.
//
//   QmpError
//    ├─ ConnectFailed     there is no connection yet; `why` says what an operator has to do
//    ├─ Disconnected      there was a connection and it has ended
//    ├─ FramingError      the bytes are not a stream of JSON lines
//    └─ of one command:
//       ├─ Refused         QEMU answered no: nothing changed
//       ├─ NotSent         it was never written: it certainly did not happen, ask again at will
//       └─ OutcomeUnknown  it was written and no answer came: it may have happened. Query, never retry blindly

/** All errors that this folder throws or rejects with on purpose. */
export class QmpError extends Error {
  override readonly name: string = 'QmpError';
}

/** QEMU answered the command with an error: nothing changed. Source: QEMU docs/interop/qmp-spec, "Error". */
export class Refused extends QmpError {
  override readonly name = 'Refused';
  readonly command: string;
  /** QEMU's error class. Nearly always `GenericError`; do not decide by it alone. */
  readonly qemuClass: string;
  /** QEMU's own text, for people. It changes between versions. */
  readonly desc: string;

  constructor(command: string, qemuClass: string, desc: string) {
    super(`QEMU refused ${command}: ${desc} (${qemuClass})`);
    this.command = command;
    this.qemuClass = qemuClass;
    this.desc = desc;
  }
}

/** The command was written and no answer came: it may have happened, or may still happen. */
export class OutcomeUnknown extends QmpError {
  override readonly name = 'OutcomeUnknown';
  readonly command: string;
  /** `timeout`: QEMU is slow, the connection stays. `disconnected`: no answer can come any more. */
  readonly why: 'timeout' | 'disconnected';

  constructor(command: string, why: 'timeout' | 'disconnected', options?: ErrorOptions) {
    const what = why === 'timeout' ? 'QEMU did not answer in time' : 'the connection ended before an answer';
    super(`The outcome of ${command} is unknown: ${what}`, options);
    this.command = command;
    this.why = why;
  }
}

/** The command was never written, so it certainly did not happen. `cause` says what was in the way. */
export class NotSent extends QmpError {
  override readonly name = 'NotSent';
  readonly command: string;

  constructor(command: string, reason: string, options?: ErrorOptions) {
    super(`${command} was not sent: ${reason}`, options);
    this.command = command;
  }
}

const CONNECT_ADVICE = {
  absent: 'the socket does not exist: QEMU was not started, or the socket was removed',
  refused: 'nobody listens on this socket: the file is stale, and its QEMU has ended',
  denied: 'permission denied: allow this user to read and write the socket',
  busy: 'another client holds this QMP socket, or QEMU does not run; give the agent a monitor of its own',
  'not-qmp': 'this does not speak QMP: the path must be a monitor with mode=control',
  silent:
    'it accepts connections and does not greet: it is not a QMP monitor, or another client holds it through a proxy',
  failed: 'the connection could not be made',
} as const;

export type ConnectFailure = keyof typeof CONNECT_ADVICE;

/** No connection was made. Another attempt is harmless: only the negotiation was written. */
export class ConnectFailed extends QmpError {
  override readonly name = 'ConnectFailed';
  readonly path: string;
  readonly why: ConnectFailure;

  /** `detail` is appended to the advice for `why`. */
  constructor(path: string, why: ConnectFailure, detail?: string, options?: ErrorOptions) {
    super(`${path}: ${CONNECT_ADVICE[why]}${detail === undefined ? '' : ` (${detail})`}`, options);
    this.path = path;
    this.why = why;
  }

  /** From the error of connect(2), as Node reports it. */
  static from(path: string, error: NodeJS.ErrnoException): ConnectFailed {
    const code = error.code ?? error.message;
    return new ConnectFailed(path, failureOfCode[code] ?? 'failed', code, { cause: error });
  }
}

const failureOfCode: Readonly<Record<string, ConnectFailure>> = {
  ENOENT: 'absent',
  ECONNREFUSED: 'refused',
  EACCES: 'denied',
  EPERM: 'denied',
  EAGAIN: 'busy', // QEMU's listen backlog is full: one client is served, others wait already
};

const DISCONNECT_REASONS = {
  ended: 'QEMU closed the connection',
  failed: 'the connection broke',
  'not-qmp': 'the data is not QMP',
  silent: 'QEMU did not answer over it',
  'too-much': 'its messages exceed the available memory',
  'of-no-use': 'the other end is not the expected one',
  closed: 'it was closed on this side',
} as const;

/** The end of a connection that was in use. */
export class Disconnected extends QmpError {
  override readonly name = 'Disconnected';
  readonly why: keyof typeof DISCONNECT_REASONS;

  constructor(why: keyof typeof DISCONNECT_REASONS, detail?: string, options?: ErrorOptions) {
    super(`Disconnected: ${DISCONNECT_REASONS[why]}${detail === undefined ? '' : ` (${detail})`}`, options);
    this.why = why;
  }
}

/** The data cannot be cut into JSON messages, and the rest cannot be trusted. */
export class FramingError extends QmpError {
  override readonly name = 'FramingError';
  /** The complete messages before the wrong bytes, in the same chunk. */
  readonly before: readonly unknown[];

  constructor(reason: string, before: readonly unknown[], options?: ErrorOptions) {
    super(reason, options);
    this.before = before;
  }
}
