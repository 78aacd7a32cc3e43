/** The folder of the journals, one file a job, and whatever else somebody has put there. */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeJournal, PLAIN, type ReadJournal, SUFFIX, syncFolder } from './journal.ts';
import { isOwn } from './own-files.ts';

/** What is found under a name: a journal, undefined for none that was ever accepted, or why it is not to be used. */
export interface FoundJournal {
  /** The file's name. It is the job's id, unless somebody has changed it. */
  readonly id: string;
  readonly read: ReadJournal | Error | undefined;
}

/** Reads every journal of a state folder, which is made if it is not there. */
export async function readJournals(folder: string): Promise<readonly FoundJournal[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = (await readdir(folder)).filter((name) => name.endsWith(SUFFIX));
  const found: FoundJournal[] = [];
  for (let at = 0; at < names.length; at += AT_ONCE) {
    found.push(...(await Promise.all(names.slice(at, at + AT_ONCE).map(async (name) => await readOne(folder, name)))));
  }
  return found;
}

/** A process may have some hundred files open. */
const AT_ONCE = 32;
/** Ten thousand times what a job writes. */
const LONGEST_BYTES = 64 * 1024 * 1024;

async function readOne(folder: string, name: string): Promise<FoundJournal> {
  const id = name.slice(0, -SUFFIX.length);
  try {
    await using file = await open(join(folder, name), constants.O_RDONLY | PLAIN);
    const stats = await file.stat();
    if (!stats.isFile()) throw new Error('it is no file');
    if (!isOwn(stats)) throw new Error(`it belongs to user ${stats.uid}`);
    if (stats.size > LONGEST_BYTES) throw new Error(`no journal has ${stats.size} bytes`);
    const bytes = await file.readFile();
    const read = decodeJournal(bytes.toString('utf8'));
    return { id, read: read && { ...read, sizeBytes: bytes.length } };
  } catch (error) {
    // That there is nothing to spare for looking says nothing of the journal.
    if (error instanceof Error && 'code' in error && ['EMFILE', 'ENFILE', 'ENOMEM'].includes(String(error.code)))
      throw error;
    return { id, read: error instanceof Error ? error : new Error(String(error)) };
  }
}

/** For a job that is to be forgotten. */
export async function removeJournal(folder: string, job: string): Promise<void> {
  await unlink(join(folder, job + SUFFIX));
}

/** Makes way for a new journal; one that nobody could read stays for a person to look at, under another name. */
export async function setAside(folder: string, job: string): Promise<void> {
  const taken = new Set(await readdir(folder));
  if (!taken.has(job + SUFFIX)) return;
  const free = ['', ...Array.from(taken, (_, index) => `.${index + 1}`)].map((number) => `${job}.unreadable${number}`);
  await rename(join(folder, job + SUFFIX), join(folder, free.find((name) => !taken.has(name)) ?? `${job}.unreadable`));
}

/** Gives a journal the name that the job in it has: nothing may be there. */
export async function nameAfterJob(folder: string, name: string, job: string): Promise<void> {
  await rename(join(folder, name + SUFFIX), join(folder, job + SUFFIX));
  await syncFolder(folder);
}

/** What is in the folder beside the journals of these jobs: set aside, or not to be used. */
export async function othersIn(folder: string, jobs: ReadonlySet<string>): Promise<readonly string[]> {
  const names = await readdir(folder);
  return names.filter((name) => !(name.endsWith(SUFFIX) && jobs.has(name.slice(0, -SUFFIX.length))));
}
