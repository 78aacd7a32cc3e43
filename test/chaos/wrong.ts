/** An error that a check finds. The first one ends the whole run. */

/** The service has said something wrong, has lost data, or has kept somebody waiting. */
export class WrongOutcome extends Error {
  override readonly name = 'WrongOutcome';
}

/** The first error, for all tasks that run in parallel. */
export class Verdict {
  #wrong: unknown;

  get isWrong(): boolean {
    return this.#wrong !== undefined;
  }

  found(error: unknown): void {
    this.#wrong ??= error;
  }

  /** Throws the error, if there is one. */
  check(): void {
    if (this.#wrong !== undefined) throw this.#wrong;
  }
}
