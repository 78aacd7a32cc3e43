/** A limit for all, and a limit for each peer, so that one peer leaves something for the others. */
export class Shares {
  readonly #inAll: number;
  readonly #ofOne: number;
  readonly #taken = new Map<string, number>();
  #all = 0;

  constructor({ inAll, ofOne }: { readonly inAll: number; readonly ofOne: number }) {
    this.#inAll = inAll;
    this.#ofOne = ofOne;
  }

  /** Takes one more; a caller that gets true has to give it back. */
  take(peer: string): boolean {
    const taken = this.#taken.get(peer) ?? 0;
    if (this.#all >= this.#inAll || taken >= this.#ofOne) return false;
    this.#all += 1;
    this.#taken.set(peer, taken + 1);
    return true;
  }

  giveBack(peer: string): void {
    const left = (this.#taken.get(peer) ?? 0) - 1;
    this.#all -= 1;
    if (left > 0) this.#taken.set(peer, left);
    else this.#taken.delete(peer);
  }
}
