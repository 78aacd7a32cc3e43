/** The database of examples/node/fenced-move.js, as a test sees it: the paths with which VMs are started. */
import { DatabaseSync } from 'node:sqlite';

export class ConfigurationFile implements Disposable {
  readonly #db: DatabaseSync;

  /** With one disk, which the VM uses. */
  constructor(file: string, path: string) {
    this.#db = new DatabaseSync(file, { timeout: 60_000 });
    this.#db.exec('CREATE TABLE disk (domain TEXT, disk TEXT, path TEXT NOT NULL, PRIMARY KEY (domain, disk))');
    this.#db.prepare('INSERT INTO disk VALUES (?, ?, ?)').run('vm1', 'vd0', path);
  }

  /** The image with which the VM would be started now. */
  get path(): unknown {
    return this.#db.prepare('SELECT path FROM disk').get()?.['path'];
  }

  /** The moves that are not over for the owner. */
  get moves(): number {
    return this.#db.prepare('SELECT * FROM move').all().length;
  }

  /** Nobody can write until the lock is disposed of. */
  lock(): Disposable {
    this.#db.exec('BEGIN IMMEDIATE');
    return { [Symbol.dispose]: () => this.#db.exec('ROLLBACK') };
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
