/**
 * Calls come in by turns: one of each peer, and of a peer's connections each in its turn. So whoever has a thousand of them, on
 * however many connections, waits for himself.
 */
export class Turns<Connection extends { readonly peer: string; readonly mayHaveMore: boolean }> {
  /** By peer; the connection whose turn is next comes first. */
  readonly #waiting = new Map<string, Map<Connection, (() => void)[]>>();
  #isComing = false;

  take(connection: Connection, come: () => void): void {
    const { peer } = connection;
    const ofPeer = this.#waiting.get(peer) ?? new Map<Connection, (() => void)[]>();
    this.#waiting.set(peer, ofPeer);
    const before = ofPeer.get(connection);
    if (before === undefined) ofPeer.set(connection, [come]);
    else before.push(come);
    this.again();
  }

  /** Nothing of it comes any more. */
  forget(connection: Connection): void {
    const ofPeer = this.#waiting.get(connection.peer);
    ofPeer?.delete(connection);
    if (ofPeer?.size === 0) this.#waiting.delete(connection.peer);
  }

  /** A connection may have more now. */
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
    const next = [...this.#waiting.values()].flatMap((ofPeer) => {
      const found = ofPeer.entries().find(([{ mayHaveMore }]) => mayHaveMore);
      if (found === undefined) return [];
      const [connection, calls] = found;
      const come = calls.shift();
      ofPeer.delete(connection);
      if (calls.length > 0) ofPeer.set(connection, calls);
      else this.forget(connection);
      return come ?? [];
    });
    for (const come of next) come();
    return next.length > 0;
  }
}
