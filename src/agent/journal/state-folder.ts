/** The state folder, with the journals, and the lock that allows one service at a time. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BlockJobError } from '../../core/errors.ts';
import { OWNER_DIGITS } from '../../core/job/names.ts';
import { closeToOthers, isOwn, lockHolder, makePlainFile } from '../host/own-files.ts';
import { stateFailureFrom } from '../qemu/failures.ts';

/** Enough for a UUID and a newline. */
const LONGEST_BYTES = 100;

/** A state folder that is full or read-only is not a bug: the caller of the write gets a typed error. */
export async function intoState<T>(folder: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    const why = stateFailureFrom(error, folder);
    throw why === undefined ? error : new BlockJobError(why, { cause: error });
  }
}

export class StateFolder implements Disposable {
  readonly jobsFolder: string;
  readonly holdsFolder: string;
  /** The files that others could access until now. */
  readonly wasOpen: readonly string[];
  readonly #lock: DatabaseSync;

  private constructor(folder: string, lock: DatabaseSync, wasOpen: readonly string[]) {
    this.jobsFolder = join(folder, 'jobs');
    this.holdsFolder = join(folder, 'holds');
    this.#lock = lock;
    this.wasOpen = wasOpen;
  }

  /**
   * Makes the folder if it does not exist, and closes it to others. Throws, in words for people, while another service
   * uses it, and if others keep control over it.
   */
  static async take(folder: string): Promise<StateFolder> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    // Node has no file lock that ends with its process; SQLite's, which is the kernel's, does. It holds no data and
    // writes none: a full folder can be locked.
    let lock: DatabaseSync | undefined;
    const path = join(folder, 'lock');
    try {
      const wasOpen = await closeToOthers(folder, ['lock', 'instance', 'jobs', 'holds']);
      await makePlainFile(path);
      lock = new DatabaseSync(path, { timeout: 0 });
      lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      return new StateFolder(folder, lock, wasOpen);
    } catch (error) {
      lock?.close();
      const why = error instanceof Error ? error.message : String(error);
      const hint = /locked/.test(why) ? await whoHas(path) : why;
      throw new Error(`cannot use the state folder ${folder}: ${hint}`, { cause: error });
    }
  }

  /**
   * The identity of this folder: the same for each service that uses it, and different for each folder. Throws, in
   * words for people, if it exists and cannot be read: with a new one this host would count as another.
   */
  async instance(): Promise<string> {
    const path = join(dirname(this.jobsFolder), 'instance');
    const known = await readSmall(path);
    if (known !== '') return known.trim();
    const instance = crypto.randomUUID();
    await writeFile(path, `${instance}\n`, { mode: 0o600, flush: true });
    return instance;
  }

  /** The beginning of the ids of the jobs from this folder, different for each folder. Throws as `instance`. */
  async owner(): Promise<string> {
    const instance = await this.instance().catch((error: unknown) => {
      // Running jobs are driven also from a full folder. No new one begins there.
      if (isNoRoom(error)) return crypto.randomUUID();
      throw error;
    });
    return createHash('sha256').update(instance).digest('hex').slice(0, OWNER_DIGITS);
  }

  [Symbol.dispose](): void {
    this.#lock.close();
  }
}

async function whoHas(lock: string): Promise<string> {
  const holder = await lockHolder(lock);
  const by = holder === undefined ? '' : ` (its lock is held by pid ${holder.pid}, ${holder.name})`;
  if (holder === undefined || isOwn(holder))
    return `another blockjobd uses it; give each a --state-dir of its own${by}`;
  const who = `pid ${holder.pid} (${holder.name}) of user ${holder.uid}`;
  return `${who} holds its lock since the folder was open to others, and is not a blockjobd of ours: end that process`;
}

function isNoRoom(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ['ENOSPC', 'EDQUOT', 'EROFS'].includes(String(error.code));
}

/** The contents of a file, '' if it does not exist. Never blocks if it is a FIFO. */
async function readSmall(path: string): Promise<string> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LONGEST_BYTES + 1), 0, LONGEST_BYTES + 1, 0);
    if (bytesRead > LONGEST_BYTES) throw new Error('it is too long');
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot use ${path}: ${why}; remove it, and this host is registered as a new one`, {
      cause: error,
    });
  }
}
