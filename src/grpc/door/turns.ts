/** Calls come in by turns: one of each connection, then of each again. So a thousand of one wait for themselves. */
export class Turns<Connection> {
  readonly #mayCome: (connection: Connection) => boolean;
  readonly #waiting = new Map<Connection, (() => void)[]>();
  #isComing = false;

  /** `mayCome`: whether a connection is given more now. Whoever changes that calls `again`. */
  constructor(mayCome: (connection: Connection) => boolean) {
    this.#mayCome = mayCome;
  }

  take(connection: Connection, come: () => void): void {
    const before = this.#waiting.get(connection);
    if (before === undefined) this.#waiting.set(connection, [come]);
    else before.push(come);
    this.again();
  }

  /** Nothing of it comes any more. */
  forget(connection: Connection): void {
    this.#waiting.delete(connection);
  }

  again(): void {
    if (this.#isComing || this.#waiting.size === 0) return;
    this.#isComing = true;
    setImmediate(() => {
      this.#isComing = false;
      if (this.#turn()) this.again();
    });
  }

  /** Whether anybody came. */
  #turn(): boolean {
    let came = false;
    for (const [connection, calls] of this.#waiting) {
      if (!this.#mayCome(connection)) continue;
      const next = calls.shift();
      if (calls.length === 0) this.#waiting.delete(connection);
      came = true;
      next?.();
    }
    return came;
  }
}
