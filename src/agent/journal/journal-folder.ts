/** The folder of journals, with one file per job, and any other file in it. */
import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { KnownJob } from '../../core/job/known-job.ts';
import { mayHaveLeftOver } from '../../core/job/retention.ts';
import { isOwn } from '../host/own-files.ts';
import { decodeJournal, PLAIN, type ReadJournal, SUFFIX, syncFolder } from './journal.ts';

/** The file of a name: a journal, undefined if its job was never accepted, or the reason why it cannot be used. */
export interface FoundJournal {
  /** The name of the file. It is the job's id, unless somebody has changed it. */
  readonly id: string;
  readonly read: ReadJournal | Error | undefined;
  /** The state of the file that was read. */
  readonly stats?: BigIntStats;
}

/**
 * Reads the journals of a state folder one after the other, each once, and keeps none of them. Makes the folder if it
 * does not exist. `known`: unchanged journals, which need not be read; the others are opened. A turn in the thread pool
 * for each would take longer than the reading, so it is done synchronously: nobody is served yet.
 */
export async function* readJournals<T = never>(
  folder: string,
  known: (id: string, look: () => BigIntStats | undefined) => T | undefined = () => undefined,
): AsyncGenerator<FoundJournal | T> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = (await readdir(folder)).filter((name) => name.endsWith(SUFFIX));
  // One buffer for all, because separate ones would stay in memory until garbage collection.
  let room = Buffer.allocUnsafe(64 * 1024);
  for (const [at, name] of names.entries()) {
    // Monitors connect meanwhile, and a guest may wait for its `cont`.
    if (at % AT_ONCE === AT_ONCE - 1) await setImmediate();
    const path = join(folder, name);
    const look = () => lstatSync(path, { bigint: true, throwIfNoEntry: false });
    yield known(name.slice(0, -SUFFIX.length), look) ??
      found(name, () => {
        const file = openSync(path, READING);
        try {
          const stats = fstatSync(file, { bigint: true });
          refuseOther(stats);
          const size = Number(stats.size);
          if (size > room.length) room = Buffer.allocUnsafe(size);
          let read = 0;
          for (let more = -1; more !== 0 && read < size; read += more)
            more = readSync(file, room, read, size - read, read);
          return { bytes: room.subarray(0, read), stats };
        } finally {
          closeSync(file);
        }
      });
  }
}

/** Reads one journal on request, without blocking anybody else. */
export async function readJournal(folder: string, name: string): Promise<FoundJournal> {
  try {
    await using file = await open(join(folder, name), READING);
    const stats = await file.stat({ bigint: true });
    refuseOther(stats);
    const bytes = await file.readFile();
    return found(name, () => ({ bytes, stats }));
  } catch (error) {
    return found(name, () => {
      throw error;
    });
  }
}

/** The reading takes a millisecond or more. */
const AT_ONCE = 16;
/** Ten thousand times the size that a job writes. */
const LONGEST_BYTES = 64 * 1024 * 1024;
const READING = constants.O_RDONLY | PLAIN;

function refuseOther(stats: BigIntStats): void {
  if (!stats.isFile()) throw new Error('it is not a file');
  if (!isOwn(stats)) throw new Error(`it belongs to user ${stats.uid}`);
  if (stats.size > LONGEST_BYTES) throw new Error(`no journal has ${stats.size} bytes`);
}

function found(name: string, read: () => { readonly bytes: Buffer; readonly stats: BigIntStats }): FoundJournal {
  const id = name.slice(0, -SUFFIX.length);
  try {
    const { bytes, stats } = read();
    return { id, read: decodeJournal(bytes), stats };
  } catch (error) {
    // A lack of descriptors or memory says nothing about the journal.
    if (error instanceof Error && 'code' in error && ['EMFILE', 'ENFILE', 'ENOMEM'].includes(String(error.code)))
      throw error;
    return { id, read: error instanceof Error ? error : new Error(String(error)) };
  }
}

/** For a job that the agent forgets. */
export async function removeJournal(folder: string, job: string): Promise<void> {
  await unlink(join(folder, job + SUFFIX));
}

/**
 * An unreadable journal makes way for a new one; the journal of a job with leftovers is forgotten if there are too many
 * of them. Both stay under another name, for a person to look at.
 */
export async function setAside(folder: string, job: string, as: 'unreadable' | 'leftover'): Promise<void> {
  const taken = new Set(await readdir(folder));
  if (!taken.has(job + SUFFIX)) return;
  const free = ['', ...Array.from(taken, (_, index) => `.${index + 1}`)].map((number) => `${job}.${as}${number}`);
  await rename(join(folder, job + SUFFIX), join(folder, free.find((name) => !taken.has(name)) ?? `${job}.${as}`));
}

/** Gives a journal the name of its job: no file of that name may exist. */
export async function nameAfterJob(folder: string, name: string, job: string): Promise<void> {
  await rename(join(folder, name + SUFFIX), join(folder, job + SUFFIX));
  await syncFolder(folder);
}

/** Files in the folder that are not journals of these jobs: set aside, or not usable. */
export async function othersIn(folder: string, jobs: ReadonlySet<string>): Promise<readonly string[]> {
  const names = await readdir(folder);
  return names.filter((name) => !(name.endsWith(SUFFIX) && jobs.has(name.slice(0, -SUFFIX.length))));
}

/** The job ended long ago. Its journal still shows a person what the job may have left over. */
export async function letGoOfJournal(folder: string, job: KnownJob, logger: Logger): Promise<void> {
  const id = job.accepted.job;
  if (!mayHaveLeftOver(job)) return await removeJournal(folder, id);
  const file = job.madeFile?.path ?? job.accepted.destination?.path;
  logger.warn({ job: id, file }, 'Too many ended jobs have leftovers; this one is no longer listed');
  await setAside(folder, id, 'leftover');
}
