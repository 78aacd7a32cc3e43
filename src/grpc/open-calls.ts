/**
 * The unary calls that are being answered. Each has one signal, for its caller and for the end of the server: a signal
 * that is composed of others costs as much as the rest of a short call.
 */
export class OpenCalls {
  readonly #open = new Set<OpenCall>();
  #ended: { readonly reason: unknown } | undefined;

  /** Disposed when it has been answered. */
  begin(): OpenCall {
    const call = new OpenCall(this.#open);
    if (this.#ended !== undefined) call.end(this.#ended.reason);
    return call;
  }

  /** Ends all of them, and those that begin later. */
  end(reason: unknown): void {
    this.#ended = { reason };
    for (const call of this.#open) call.end(reason);
  }
}

class OpenCall implements Disposable {
  readonly #controller = new AbortController();
  readonly #end = Promise.withResolvers<never>();
  readonly #open: Set<OpenCall>;

  constructor(open: Set<OpenCall>) {
    this.#open = open;
    open.add(this);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Rejects when the call ends before its answer. */
  get ended(): Promise<never> {
    return this.#end.promise;
  }

  /** Without effect once it has been answered: gRPC reports the end of each call as if its caller had left. */
  end(reason?: unknown): void {
    if (!this.#open.has(this)) return;
    this.#controller.abort(reason);
    this.#end.reject(this.signal.reason);
  }

  [Symbol.dispose](): void {
    this.#open.delete(this);
  }
}
