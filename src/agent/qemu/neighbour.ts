/** Whether the socket is a VM's monitor at all: in a folder lie guests' agents, consoles and monitors of other programs too. */
import type { Logger } from 'pino';
import { type QmpError, Refused } from '../../qmp/errors.ts';
import type { Monitor } from '../../qmp/monitor.ts';

export class Neighbour {
  readonly #monitor: Monitor;
  readonly #logger: Logger;
  #isOne = false;

  constructor(monitor: Monitor, logger: Logger) {
    this.#monitor = monitor;
    this.#logger = logger;
    monitor.onState((state) => {
      if (state.is === 'disconnected') this.#disconnected(state.error, state.retryInMs);
    });
  }

  /** It is no VM's monitor, as far as it has shown. That lasts while it is tried again. */
  get isOne(): boolean {
    return this.#isOne;
  }

  /** It has said which VM it is. */
  isMachine(): void {
    this.#isOne = false;
  }

  /** It has not said which VM it is. Nobody would ask it again over this connection. */
  didNotSay(error: unknown): void {
    // A storage daemon speaks QMP, and has no name.
    const hasNone = error instanceof Refused && error.qemuClass === 'CommandNotFound';
    if (hasNone) this.#monitor.giveUp(`it is no virtual machine: ${error.message}`);
    else this.#monitor.reconnect();
  }

  #disconnected(error: QmpError, retryInMs: number): void {
    const { isGivenUp } = this.#monitor;
    const why = error.message;
    this.#logger.debug({ why, retryInMs }, 'QMP is disconnected');
    if (isGivenUp && !this.#isOne) {
      this.#logger.info({ why, retryInMs }, 'the socket is no monitor of a VM, and is left alone');
    }
    this.#isOne = isGivenUp;
  }

  /** The socket's name is another file's now. */
  tryAgain(): void {
    this.#monitor.tryAgain();
  }
}
