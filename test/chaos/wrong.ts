/** An error that a check finds. The first one ends the whole run. */

/** The service has said what is not true, has lost something, or has kept somebody waiting. */
export class WrongOutcome extends Error {
  override readonly name = 'WrongOutcome';
}

/** The first that went wrong, for all that go on beside it. */
export class Verdict {
  #wrong: unknown;

  get isWrong(): boolean {
    return this.#wrong !== undefined;
  }

  found(error: unknown): void {
    this.#wrong ??= error;
  }

  /** Throws what was found. */
  check(): void {
    if (this.#wrong !== undefined) throw this.#wrong;
  }
}
