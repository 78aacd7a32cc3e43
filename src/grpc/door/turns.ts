/** A call that waits. */
interface Call {
  /** Takes the resources that it needs to come in, or says that they are not free. */
  readonly mayCome: () => boolean;
  readonly come: () => void;
}

/**
 * As many calls come in before anything else is done: they share the work of a turn of Node's loop, such as a write to
 * their connection. A call of another peer waits for no more than these.
 */
const AT_ONCE = 16;

/**
 * Calls come in by turns: one for each peer, and each of a peer's connections in its turn. So a peer with a thousand
 * calls, on any number of connections, waits only for itself.
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

  /** It will not send any more. */
  forget(connection: Connection): void {
    const ofPeer = this.#waiting.get(connection.peer);
    ofPeer?.delete(connection);
    if (ofPeer?.size === 0) this.#waiting.delete(connection.peer);
  }

  /** More may come in now. */
  again(): void {
    if (this.#isComing || this.#waiting.size === 0) return;
    this.#isComing = true;
    setImmediate(() => {
      this.#isComing = false;
      let came = this.#turn();
      for (let more = came; more > 0 && came < AT_ONCE; came += more) more = this.#turn();
      if (came > 0) this.again();
    });
  }

  /** The number of calls that came in. */
  #turn(): number {
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
    return next.length;
  }
}
