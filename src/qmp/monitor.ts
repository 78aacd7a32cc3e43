// The monitor of one QEMU, until close(): it owns the current connection and makes a new one when that is lost.
//
//                    ┌──────── retryInMs later ────────┐
//                    ▼                                 │
//   start() ──► connecting ──── ConnectFailed ──► disconnected
//                    │                                 ▲
//                    └──► connected ── Disconnected ───┘          close() in any state ──► closed
//
// A new connection does not bring back commands without an answer (their callers got OutcomeUnknown) and events that
// QEMU sent in between. So a caller that sees a new generation has to query the state of its jobs.

import { isBroken, MAX_UNSURE_MS, provesWell, retryGivenUpInMs, retryInMs, showsAnother } from './back-off.ts';
import type { Share } from './budget.ts';
import { ConnectFailed, Disconnected, NotSent, type QmpError } from './errors.ts';
import { Listeners } from './listeners.ts';
import type { Command, Greeting, QmpEvent } from './messages.ts';
import { type ExecuteOptions, type MonitorOptions, withDefaults } from './options.ts';
import { Session } from './session.ts';

export type { Command, Greeting, QmpEvent } from './messages.ts';
export type { ExecuteOptions, MonitorOptions } from './options.ts';

export type MonitorState =
  | { readonly is: 'connecting' }
  /** `generation` counts the connections: 1, 2, … */
  | { readonly is: 'connected'; readonly greeting: Greeting; readonly generation: number }
  | { readonly is: 'disconnected'; readonly error: QmpError; readonly retryInMs: number }
  | { readonly is: 'closed' };

/** From when a connection is seen to be taken until the greeting. */
const SILENCE_MS = 1_000;

export class Monitor implements AsyncDisposable {
  readonly #options: Required<MonitorOptions>;
  readonly #share: Share;
  readonly #states = new Listeners<MonitorState>((error) => this.#reportThrown('state', error));
  readonly #events = new Listeners<QmpEvent>((error) => this.#reportThrown('event', error));
  #state: MonitorState = { is: 'connecting' };
  #session: Session | undefined;
  #retry: NodeJS.Timeout | undefined;
  #generation = 0;
  #failures = 0;
  #readySince = Infinity;
  #lastError: QmpError | undefined;
  #isGivenUp = false;

  /** Touches nothing yet. Throws RangeError for an empty path, which Node would take for a TCP port. */
  constructor(options: MonitorOptions) {
    if (options.path === '') throw new RangeError('The path of the QMP socket is empty');
    this.#options = withDefaults(options);
    this.#share = this.#options.budget.join((why) => this.#session?.endForRoom(why));
  }

  /** Begins to connect, and continues until close(). Never throws; a second call does nothing. */
  start(): void {
    if (this.#session === undefined && this.#state.is === 'connecting') this.#connect();
  }

  /** The present state; also `connecting` before start(). */
  get state(): MonitorState {
    return this.#state;
  }

  /** The last attempt has found no QEMU: no such socket, one that was left behind, or another program's. */
  get nobodyListens(): boolean {
    return this.#lastError instanceof ConnectFailed && ['absent', 'refused', 'not-qmp'].includes(this.#lastError.why);
  }

  /** Hears of every change from now on, synchronously and in order; not of the present state. */
  onState(listener: (state: MonitorState) => void): Disposable {
    return this.#states.add(listener);
  }

  /** The socket may not be a monitor, and has behaved like another one: for minutes it is left to its own clients. */
  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /**
   * Hears every event of this and of all later connections, synchronously, in the order in which QEMU sent
   * them.
   *
   * Listen before you ask: register first, execute then. QEMU sends the events that a command causes before
   * its answer, up to the end of a job that has nothing to do, and an event that came before the listener is
   * gone.
   *
   * A listener that throws is reported to onStray and does not disturb the others.
   */
  onEvent(listener: (event: QmpEvent) => void): Disposable {
    return this.#events.add(listener);
  }

  /**
   * Executes the command and resolves with QEMU's return value. Commands are answered in the order of the
   * calls; at most seven are with QEMU at a time and the others wait here.
   *
   * Rejects with Refused (nothing changed), NotSent (not connected, timed out or unwanted before its turn: certainly
   * did not happen, may be repeated) or OutcomeUnknown (may have happened: query before anything else). After
   * a time-out the connection stays, and the late answer is dropped. Source: QEMU docs/interop/qmp-spec,
   * "Issuing Commands".
   */
  execute(command: Command, options: ExecuteOptions = {}): Promise<unknown> {
    const { timeoutMs = this.#options.commandTimeoutMs, atTurn } = options;
    return this.#session?.execute(command, timeoutMs, atTurn) ?? neverStarted(command);
  }

  /**
   * As execute, but past every command that waits or hangs: the way to get a monitor back that does not
   * answer. QEMU refuses it for all but a few commands (`yank`, `query-yank`, `migrate-pause`,
   * `migrate-recover`), and for all when its greeting did not offer `oob`.
   */
  executeOob(command: Command, options: Pick<ExecuteOptions, 'timeoutMs'> = {}): Promise<unknown> {
    const timeoutMs = options.timeoutMs ?? this.#options.commandTimeoutMs;
    return this.#session?.executeOob(command, timeoutMs) ?? neverStarted(command);
  }

  /**
   * Resolves once connected, at once if it is. Rejects with the signal's reason when that aborts, and with
   * Disconnected when the monitor is closed; never because an attempt failed. May be repeated.
   */
  async ready(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = ({ is: state }: MonitorState) => {
      if (state === 'connected') resolve();
      if (state === 'closed') reject(new Disconnected('closed'));
    };
    const abort = () => reject(signal?.reason);
    using subscriptions = new DisposableStack();
    subscriptions.use(this.onState(look));
    signal?.addEventListener('abort', abort);
    subscriptions.defer(() => signal?.removeEventListener('abort', abort));
    look(this.#state);
    await promise;
  }

  /** Drops a connection over which QEMU has not given a required answer, and makes another one a little later. */
  reconnect(): void {
    this.#drop(new Disconnected('silent'));
  }

  /** Like reconnect: the other end is not the expected one, as `detail` says. */
  giveUp(detail: string): void {
    this.#drop(new Disconnected('of-no-use', detail));
  }

  #drop(why: Disconnected): void {
    if (this.#state.is !== 'connected') return;
    void this.#session?.close();
    // No sooner than after many failures, because it was asked with patience already.
    this.#failures = Infinity;
    this.#retryLater(why);
  }

  /** Another file has taken the name of the socket: it may be a monitor now. */
  tryAgain(): void {
    if (!this.#isGivenUp || this.#state.is !== 'disconnected') return;
    clearTimeout(this.#retry);
    this.#failures = 0;
    this.#isGivenUp = false;
    this.#connect();
  }

  /** Rejects all that is pending; resolves when timers and socket are gone. Never rejects; may be repeated. */
  async close(): Promise<void> {
    clearTimeout(this.#retry);
    const gone = this.#session?.close();
    this.#share.leave();
    if (this.#state.is !== 'closed') this.#enter({ is: 'closed' });
    await gone;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #connect(): void {
    const isUnsure = this.#options.mayBeAnother && this.#generation === 0;
    this.#session = new Session(
      { ...this.#options, silenceTimeoutMs: isUnsure ? SILENCE_MS : undefined, hold: this.#share.hold },
      {
        onReady: (greeting) => {
          this.#readySince = performance.now();
          this.#lastError = undefined;
          this.#isGivenUp = false;
          this.#enter({ is: 'connected', greeting, generation: ++this.#generation });
        },
        onEvent: (event) => this.#events.emit(event),
        onStray: this.#options.onStray,
        onClosed: (error) => this.#retryLater(error),
      },
    );
    // Reported last, so that a listener that closes the monitor finds the session.
    this.#enter({ is: 'connecting' });
  }

  #retryLater(error: QmpError): void {
    this.#isGivenUp = this.#options.mayBeAnother && showsAnother(error, this.#generation);
    const isUnsure = this.#options.mayBeAnother && this.#generation === 0;
    // A connection that breaks again and again is not better because of its greetings.
    if (provesWell(error, performance.now() - this.#readySince)) this.#failures = 0;
    this.#readySince = Infinity;
    const mostMs = isUnsure || isBroken(error) ? MAX_UNSURE_MS : undefined;
    const delayMs = this.#isGivenUp ? retryGivenUpInMs() : retryInMs(this.#failures++, undefined, mostMs);
    this.#retry = setTimeout(() => this.#connect(), delayMs);
    this.#lastError = error;
    this.#enter({ is: 'disconnected', error, retryInMs: delayMs });
  }

  #enter(state: MonitorState): void {
    this.#state = state;
    this.#states.emit(state);
  }

  #reportThrown(what: string, error: unknown): void {
    this.#options.onStray(`a listener for ${what} threw: ${String(error)}`);
  }
}

function neverStarted(command: Command): Promise<never> {
  return Promise.reject(new NotSent(command.execute, 'the monitor was never started'));
}
