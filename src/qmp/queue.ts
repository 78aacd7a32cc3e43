// Has the other end taken our connection? A unix socket connects to a queue: whether the server has looked at
// it, connect(2) does not say.

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

  /** Looks who is there. To be called right before we connect. */
  async look(): Promise<void> {
    this.#wasEmpty = (await statesOf(this.#path)).length === 0;
  }

  /**
   * Has the server taken ours? Ours has no name that /proc would show: it is the first where nobody was there before,
   * and else it has been taken where none waits. False where the server is in another network namespace, and where
   * /proc does not tell.
   */
  async isPassed(): Promise<boolean> {
    const states = await statesOf(this.#path);
    return states.includes(TAKEN) && (this.#wasEmpty || !states.includes(WAITS));
  }
}

/** The server may have bound a relative name: those of other folders that end alike are looked at, too. */
async function statesOf(path: string): Promise<readonly string[]> {
  const name = basename(await realpath(path).catch(() => path));
  const lines = (await readFile('/proc/self/net/unix', 'utf8').catch(() => '')).split('\n');
  return lines.flatMap((line) => {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , , , state, , ...bound] = line.trim().split(/\s+/);
    const isOfIt = basename(bound.join(' ')) === name;
    return isOfIt && (state === WAITS || state === TAKEN) ? [state] : [];
  });
}
