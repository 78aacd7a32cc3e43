// One connection to a QEMU, from connect to the end. It never comes back: see monitor.ts for what does.
//
//   connecting ──connected──► greeting ──"QMP"──► negotiating ──return──► ready
//        │                       │                     │                    │
//        │      socket error, end of stream, garbage, time-out, close()     │ all but the time-out
//        └───────────────────────┴──────────┬──────────┴────────────────────┘
//                                           ▼
//                                         closed
//
// In greeting nothing is written: when another client holds the monitor, QEMU keeps what we write and
// executes it once that client has left, however long we are gone. A command's time-out does not end the
// session: a healthy QEMU that drains a slow disk does not answer for tens of seconds.

import { Socket } from 'node:net';
import { Calls } from './calls.ts';
import { ConnectFailed, Disconnected, FramingError, NotSent, type QmpError } from './errors.ts';
import { encode, Framing } from './framing.ts';
import { type Command, cutWords, type Greeting, type Message, type QmpEvent, readMessage } from './messages.ts';
import { Queue } from './queue.ts';

export interface SessionOptions {
  readonly path: string;
  readonly connectTimeoutMs: number;
  /** For the greeting, and once more for the answer to the negotiation. */
  readonly greetingTimeoutMs: number;
  /** For the greeting, once the other end has taken the connection; undefined for the same time as above. */
  readonly silenceTimeoutMs: number | undefined;
  readonly maxMessageBytes: number;
  /** Called with the size of the message so far. */
  readonly hold: (bytes: number) => void;
}

/** All are called synchronously, in the order of the messages; nothing is called after onClosed. */
export interface SessionHooks {
  readonly onReady: (greeting: Greeting) => void;
  readonly onEvent: (event: QmpEvent) => void;
  /** A message that nobody waits for came, and was dropped. */
  readonly onStray: (message: string) => void;
  /** ConnectFailed if it was never ready, otherwise Disconnected. Called once, unless close() was. */
  readonly onClosed: (why: QmpError) => void;
}

type State =
  | { readonly is: 'connecting'; readonly timer: NodeJS.Timeout }
  | { readonly is: 'greeting'; readonly timer: NodeJS.Timeout }
  | { readonly is: 'negotiating'; readonly timer: NodeJS.Timeout; readonly greeting: Greeting }
  | { readonly is: 'ready'; readonly calls: Calls }
  | { readonly is: 'closed'; readonly why: QmpError };

const NEGOTIATION_ID = 'negotiation';
/** More late answers are impossible: only seven commands are with QEMU. */
const MOST_STRAYS = 20;

export class Session {
  readonly #options: SessionOptions;
  readonly #hooks: SessionHooks;
  readonly #socket = new Socket();
  readonly #framing: Framing;
  readonly #socketGone = Promise.withResolvers<void>();
  readonly #queue: Queue;
  #state: State;
  #silence: NodeJS.Timeout | undefined;
  #strays = 0;

  /** Begins to connect. */
  constructor(options: SessionOptions, hooks: SessionHooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#framing = new Framing(options);
    this.#queue = new Queue(options.path);
    const timer = this.#failAfter(options.connectTimeoutMs, 'failed', 'no connection');
    this.#state = { is: 'connecting', timer };
    this.#socket
      .on('connect', () => this.#connected())
      .on('data', (chunk: Buffer) => this.#received(chunk))
      .on('end', () => this.#ended())
      .on('error', (error) => this.#broke(error))
      .on('close', () => this.#socketGone.resolve());
    if (options.silenceTimeoutMs === undefined) this.#socket.connect({ path: options.path });
    else void this.#connectAfterALook();
  }

  async #connectAfterALook(): Promise<void> {
    await this.#queue.look();
    if (this.#state.is === 'connecting') this.#socket.connect({ path: this.#options.path });
  }

  /** Like Monitor.execute; NotSent in every state but ready. */
  execute(command: Command, timeoutMs: number, atTurn?: () => boolean): Promise<unknown> {
    const state = this.#state;
    return state.is === 'ready' ? state.calls.execute(command, timeoutMs, atTurn) : refuse(command, state);
  }

  /** Like Monitor.executeOob; NotSent in every state but ready. */
  executeOob(command: Command, timeoutMs: number): Promise<unknown> {
    const state = this.#state;
    return state.is === 'ready' ? state.calls.executeOob(command, timeoutMs) : refuse(command, state);
  }

  /** Ends the session without onClosed, and resolves when its socket is gone. May be repeated. */
  close(): Promise<void> {
    this.#leave(new Disconnected('closed'));
    return this.#socketGone.promise;
  }

  #connected(): void {
    if (this.#state.is !== 'connecting') return;
    const timer = this.#failAfter(this.#options.greetingTimeoutMs, 'busy', 'no greeting');
    this.#enter({ is: 'greeting', timer });
    this.#leaveIfSilent(this.#state, false);
  }

  /**
   * QEMU greets as soon as it takes a connection. A socket that takes it and stays silent belongs to a guest's console
   * or agent, for which others wait. It is checked twice, because ours may have been taken just now.
   */
  #leaveIfSilent(greeting: State, wasPassed: boolean): void {
    const { path, silenceTimeoutMs } = this.#options;
    if (silenceTimeoutMs === undefined) return;
    const look = async () => {
      const passed = await this.#queue.isPassed();
      if (this.#state !== greeting) return;
      if (passed && wasPassed) {
        this.#end(new ConnectFailed(path, 'silent', `no greeting within ${silenceTimeoutMs} ms`));
      } else this.#leaveIfSilent(greeting, passed);
    };
    this.#silence = setTimeout(() => void look(), silenceTimeoutMs / 2);
  }

  #received(chunk: Buffer): void {
    try {
      this.#dispatch(this.#framing.push(chunk));
    } catch (error) {
      if (!(error instanceof FramingError)) throw error;
      this.#dispatch(error.before);
      this.#notQmp(error.message, error);
    }
  }

  #dispatch(messages: readonly unknown[]): void {
    for (const message of messages) {
      // A hook may have closed the session in the middle of the chunk.
      if (this.#state.is === 'closed') return;
      this.#handle(readMessage(message));
    }
  }

  #handle(message: Message): void {
    switch (message.kind) {
      case 'greeting':
        if (this.#state.is !== 'greeting') return this.#notQmp('a second greeting');
        return this.#negotiate(message.greeting);
      case 'event':
        if (this.#state.is === 'greeting') return this.#notQmp('an event before the greeting');
        return this.#hooks.onEvent(message.event);
      case 'unknown':
        return this.#notQmp('a message of no known kind');
      case 'return':
      case 'error':
        return this.#handleReply(message);
    }
  }

  #handleReply(reply: Extract<Message, { id: unknown }>): void {
    const state = this.#state;
    const answer = reply.kind === 'error' ? `error: ${reply.desc}` : 'return';
    // QEMU could not read our data, so that its number of open answers is unknown.
    if (reply.id === undefined) return this.#notQmp(`an answer without id: ${answer}`);
    if (state.is === 'ready') {
      if (!state.calls.settle(reply))
        this.#stray(`nobody waits for the answer with id ${JSON.stringify(reply.id)}: ${answer}`);
      return;
    }
    if (state.is !== 'negotiating' || reply.id !== NEGOTIATION_ID) return this.#notQmp(`unasked ${answer}`);
    if (reply.kind === 'error') return this.#end(new ConnectFailed(this.#options.path, 'failed', reply.desc));
    this.#enter({ is: 'ready', calls: new Calls((line) => this.#socket.write(line)) });
    this.#hooks.onReady(state.greeting);
  }

  /** After many of these the next one contains nothing new. */
  #stray(message: string): void {
    this.#strays += 1;
    if (this.#strays <= MOST_STRAYS) this.#hooks.onStray(cutWords(message));
  }

  #negotiate(greeting: Greeting): void {
    const timer = this.#failAfter(this.#options.greetingTimeoutMs, 'busy', 'no answer to the negotiation');
    this.#enter({ is: 'negotiating', timer, greeting });
    const enable = greeting.capabilities.filter((name) => name === 'oob');
    // Without arguments if there is nothing to enable: QEMU before 2.12 takes none.
    const args = enable.length === 0 ? undefined : { enable };
    this.#socket.write(encode({ execute: 'qmp_capabilities', arguments: args, id: NEGOTIATION_ID }));
  }

  #ended(): void {
    const bytes = this.#framing.unfinishedBytes;
    const detail = bytes === 0 ? undefined : `in the middle of a message, after ${bytes} bytes of it`;
    if (this.#state.is === 'ready') this.#end(new Disconnected('ended', detail));
    else this.#end(new ConnectFailed(this.#options.path, 'failed', `QEMU closed it while ${this.#state.is}`));
  }

  #broke(error: NodeJS.ErrnoException): void {
    if (this.#state.is === 'ready') this.#end(new Disconnected('failed', error.message, { cause: error }));
    else this.#end(ConnectFailed.from(this.#options.path, error));
  }

  /** Its messages are too much, together with those of others. */
  endForRoom(detail: string): void {
    if (this.#state.is === 'ready') this.#end(new Disconnected('too-much', detail));
    else this.#notQmp(detail);
  }

  #notQmp(detail: string, cause?: FramingError): void {
    if (this.#state.is === 'ready') this.#end(new Disconnected('not-qmp', detail, { cause }));
    else this.#end(new ConnectFailed(this.#options.path, 'not-qmp', detail, { cause }));
  }

  #failAfter(timeoutMs: number, why: 'failed' | 'busy', what: string): NodeJS.Timeout {
    const detail = `${what} within ${timeoutMs} ms`;
    return setTimeout(() => this.#end(new ConnectFailed(this.#options.path, why, detail)), timeoutMs);
  }

  #enter(next: State): void {
    if ('timer' in this.#state) clearTimeout(this.#state.timer);
    clearTimeout(this.#silence);
    this.#state = next;
  }

  #end(why: QmpError): void {
    if (this.#leave(why)) this.#hooks.onClosed(why);
  }

  /** False when it was closed already. */
  #leave(why: QmpError): boolean {
    const state = this.#state;
    if (state.is === 'closed') return false;
    this.#enter({ is: 'closed', why });
    this.#framing.drop();
    this.#socket.destroy();
    if (state.is === 'ready') state.calls.lose(why);
    return true;
  }
}

function refuse(command: Command, state: State): Promise<never> {
  const cause = state.is === 'closed' ? state.why : undefined;
  return Promise.reject(new NotSent(command.execute, `the connection is ${state.is}`, { cause }));
}
