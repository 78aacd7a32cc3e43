/** A call that waits. */
interface Call {
  /** Takes what it needs to come in, or says that it is not there. */
  readonly mayCome: () => boolean;
  readonly come: () => void;
}

/**
 * Calls come in by turns: one of each peer, and of a peer's connections each in its turn. So whoever has a thousand of them, on
 * however many connections, waits for himself.
 */
export class Turns<Connection extends { readonly peer: string; readonly mayHaveMore: boolean }> {
  /** By peer; the connection whose turn is next comes first. */
  readonly #waiting = new Map<string, Map<Connection, Call[]>>();
  #isComing = false;

  take(connection: Connection, call: Call): void {
    const { peer } = connection;
    const ofPeer = this.#waiting.get(peer) ?? new Map<Connection, Call[]>();
    this.#waiting.set(peer, ofPeer);
    const before = ofPeer.get(connection);
    if (before === undefined) ofPeer.set(connection, [call]);
    else before.push(call);
    this.again();
  }

  /** Nothing of it comes any more. */
  forget(connection: Connection): void {
    const ofPeer = this.#waiting.get(connection.peer);
    ofPeer?.delete(connection);
    if (ofPeer?.size === 0) this.#waiting.delete(connection.peer);
  }

  /** More may come now. */
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
      for (const [connection, calls] of ofPeer) {
        const at = connection.mayHaveMore ? calls.findIndex(({ mayCome }) => mayCome()) : -1;
        const [found] = at === -1 ? [] : calls.splice(at, 1);
        if (found === undefined) continue;
        ofPeer.delete(connection);
        if (calls.length > 0) ofPeer.set(connection, calls);
        else this.forget(connection);
        return found.come;
      }
      return [];
    });
    for (const come of next) come();
    return next.length > 0;
  }
}
