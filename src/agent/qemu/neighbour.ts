/** Whether a socket is the monitor of a VM: a folder may also have guest agents, consoles and other monitors. */
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

  /** It is not the monitor of a VM, as far as it has shown. That lasts while it is tried again. */
  get isOne(): boolean {
    return this.#isOne;
  }

  /** It has sent the identity of its VM. */
  isMachine(): void {
    this.#isOne = false;
  }

  /** It has not sent the identity of a VM. It would not be asked again over this connection. */
  didNotSay(error: unknown): void {
    // A storage daemon speaks QMP, and has no name.
    const hasNone = error instanceof Refused && error.qemuClass === 'CommandNotFound';
    if (hasNone) this.#monitor.giveUp(`it is not a virtual machine: ${error.message}`);
    else this.#monitor.reconnect();
  }

  #disconnected(error: QmpError, retryInMs: number): void {
    const { isGivenUp } = this.#monitor;
    const why = error.message;
    this.#logger.debug({ why, retryInMs }, 'QMP is disconnected');
    if (isGivenUp && !this.#isOne) {
      this.#logger.info({ why, retryInMs }, 'A socket is not the monitor of a VM, and is ignored');
    }
    this.#isOne = isGivenUp;
  }

  /** The name of the socket belongs to another file now. */
  tryAgain(): void {
    this.#monitor.tryAgain();
  }
}
