/** The folder where the journals are, and the lock by which it has one service at a time. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export class StateFolder implements Disposable {
  readonly jobsFolder: string;
  readonly holdsFolder: string;
  readonly #lock: DatabaseSync;

  private constructor(folder: string, lock: DatabaseSync) {
    this.jobsFolder = join(folder, 'jobs');
    this.holdsFolder = join(folder, 'holds');
    this.#lock = lock;
  }

  /** Makes the folder where there is none. Throws, in words for people, while another service has it. */
  static async take(folder: string): Promise<StateFolder> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    // Node has no lock of its own that goes away with its process; SQLite's, the kernel's, does. It holds nothing.
    const lock = new DatabaseSync(join(folder, 'lock'), { timeout: 0 });
    try {
      lock.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      lock.close();
      const why = error instanceof Error ? error.message : String(error);
      const hint = /locked/.test(why) ? 'another blockjobd uses it; give each a --state-dir of its own' : why;
      throw new Error(`cannot use the state folder ${folder}: ${hint}`, { cause: error });
    }
    return new StateFolder(folder, lock);
  }

  /** What this folder is known by: the same for each service that uses it, another one for each folder. */
  async instance(): Promise<string> {
    const path = join(dirname(this.jobsFolder), 'instance');
    const known = await readFile(path, 'utf8').catch(() => '');
    if (known !== '') return known.trim();
    const instance = crypto.randomUUID();
    await writeFile(path, `${instance}\n`, { mode: 0o600, flush: true });
    return instance;
  }

  [Symbol.dispose](): void {
    this.#lock.close();
  }
}
