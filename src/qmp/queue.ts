// Whether the other end has taken our connection. A unix socket connects to a queue: connect(2) does not say whether
// the server has looked at it.

import { readFile, realpath } from 'node:fs/promises';
import { basename } from 'node:path';

/** The states of /proc/net/unix: a connection that waits for accept(2), and one that has it behind it. */
const WAITS = '02';
const TAKEN = '03';

/** The line for a connection to a server. */
export class Queue {
  readonly #path: string;
  #wasEmpty = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Looks at the present connections. To be called right before connecting. */
  async look(): Promise<void> {
    this.#wasEmpty = (await statesOf(this.#path)).length === 0;
  }

  /**
   * Whether the server has taken ours. Ours has no name that /proc would show: it is the first if there was none
   * before, and otherwise it has been taken if none waits. False if the server is in another network namespace, and if
   * /proc does not show it.
   */
  async isPassed(): Promise<boolean> {
    const states = await statesOf(this.#path);
    return states.includes(TAKEN) && (this.#wasEmpty || !states.includes(WAITS));
  }
}

/** The server may have bound a relative name: names of other folders with the same end are checked, too. */
async function statesOf(path: string): Promise<readonly string[]> {
  const name = basename(await realpath(path).catch(() => path));
  return (await connections()).get(name) ?? [];
}

/** The last part of the server's name → the states of its connections. */
type Connections = ReadonlyMap<string, readonly string[]>;

let next: Promise<Connections> | undefined;
let last: Promise<unknown> = Promise.resolve();

/** One reading, of all sockets of the host, serves all who ask before it begins. */
function connections(): Promise<Connections> {
  next ??= last.then(async () => {
    next = undefined;
    return await readConnections();
  });
  last = next;
  return next;
}

async function readConnections(): Promise<Connections> {
  const found = new Map<string, string[]>();
  for (const line of (await readFile('/proc/self/net/unix', 'utf8').catch(() => '')).split('\n')) {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , , , state, , ...bound] = line.trim().split(/\s+/);
    if (state !== WAITS && state !== TAKEN) continue;
    const name = basename(bound.join(' '));
    const states = found.get(name);
    if (states === undefined) found.set(name, [state]);
    else states.push(state);
  }
  return found;
}
