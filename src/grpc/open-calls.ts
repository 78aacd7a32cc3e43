/**
 * The calls that are being answered. Each has one signal, for its caller and for the end of the server: a signal that
 * is composed of others costs as much as the rest of a short call, and is larger than the rest of a watch.
 */
interface Leaving {
  once(event: 'cancelled', listener: () => void): unknown;
}

export class OpenCalls {
  readonly #open = new Set<OpenCall>();
  #ended: { readonly reason: unknown } | undefined;

  /** Disposed when it has been answered. `onEnd`: it ends before its answer, for this reason. */
  begin(call: Leaving, onEnd: (reason: unknown) => void = () => undefined): OpenCall {
    const open = new OpenCall(this.#open, onEnd);
    call.once('cancelled', () => open.end());
    if (this.#ended !== undefined) open.end(this.#ended.reason);
    return open;
  }

  /** Ends all of them, and those that begin later. */
  end(reason: unknown): void {
    this.#ended = { reason };
    for (const call of this.#open) call.end(reason);
  }
}

class OpenCall implements Disposable {
  readonly #controller = new AbortController();
  readonly #open: Set<OpenCall>;
  readonly #onEnd: (reason: unknown) => void;

  constructor(open: Set<OpenCall>, onEnd: (reason: unknown) => void) {
    this.#open = open;
    this.#onEnd = onEnd;
    open.add(this);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Without effect once it has been answered: gRPC reports the end of each call as if its caller had left. */
  end(reason?: unknown): void {
    if (!this.#open.has(this)) return;
    this.#controller.abort(reason);
    this.#onEnd(this.signal.reason);
  }

  [Symbol.dispose](): void {
    this.#open.delete(this);
  }
}
