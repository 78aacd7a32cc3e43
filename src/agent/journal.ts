/**
 * One append-only file a job, readable with `cat`: each line is an entry's CRC-32 in hex, a space, the entry as
 * JSON. An entry is on disk (fsync) when `append` returns. A last line that was torn by a crash is not there.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fold, type Job } from '../core/job.ts';
import type { JournalEntry } from '../core/journal-entry.ts';
import { NOBODY, type Observer } from '../lib/observer.ts';

const SUFFIX = '.jsonl';

export class Journal {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #observer: Observer;
  #bytes: number;

  private constructor(file: FileHandle, path: string, bytes: number, observer: Observer) {
    this.#file = file;
    this.#path = path;
    this.#observer = observer;
    this.#bytes = bytes;
  }

  static async create(folder: string, job: string, observer = NOBODY): Promise<Journal> {
    const path = join(folder, job + SUFFIX);
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    const journal = new Journal(file, path, 0, observer);
    try {
      await syncFolder(folder);
    } catch (error) {
      await journal.remove();
      throw error;
    }
    return journal;
  }

  /** Opens a journal to go on after its last whole entry; what was torn behind it is cut off. */
  static async reopen(folder: string, job: string, wholeBytes: number, observer = NOBODY): Promise<Journal> {
    const path = join(folder, job + SUFFIX);
    const file = await open(path, constants.O_WRONLY);
    await file.truncate(wholeBytes);
    return new Journal(file, path, wholeBytes, observer);
  }

  get folder(): string {
    return dirname(this.#path);
  }

  /** On failure nothing of the entry remains, and it may be appended again. */
  async append(entry: JournalEntry): Promise<void> {
    const line = Buffer.from(encodeLine(entry));
    try {
      let written = 0;
      while (written < line.length) {
        const { bytesWritten } = await this.#file.write(line, written, line.length - written, this.#bytes + written);
        written += bytesWritten;
      }
      await this.#observer.during({ does: 'sync' }, async () => await this.#file.datasync());
    } catch (error) {
      await this.#file.truncate(this.#bytes).catch(() => undefined);
      throw error;
    }
    this.#bytes += line.length;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async remove(): Promise<void> {
    await this.#file.close();
    await unlink(this.#path);
  }
}

/** For a job that is to be forgotten. */
export async function removeJournal(folder: string, job: string): Promise<void> {
  await unlink(join(folder, job + SUFFIX));
}

/** Makes way for a new journal; one that nobody could read stays for a person to look at, under another name. */
export async function setAside(folder: string, job: string): Promise<void> {
  await rename(join(folder, job + SUFFIX), join(folder, `${job}.unreadable`)).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  });
}

export function encodeLine(entry: JournalEntry): string {
  const json = JSON.stringify(entry);
  return `${checksum(json)} ${json}\n`;
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, '0');
}

/** A line in the middle that does not match its checksum: the disk or a person changed it. */
export class JournalDamaged extends Error {
  override readonly name = 'JournalDamaged';
}

export interface ReadJournal {
  readonly job: Job;
  readonly entries: readonly [JournalEntry, ...JournalEntry[]];
  /** How much of the file is whole entries. */
  readonly wholeBytes: number;
}

/** Undefined for a journal without a whole first entry: that job was never accepted. */
export function decodeJournal(text: string): ReadJournal | undefined {
  const entries: JournalEntry[] = [];
  let wholeBytes = 0;
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    // What follows the last newline was torn.
    if (index === lines.length - 1) break;
    const json = line.slice(9);
    if (line.slice(0, 9) !== `${checksum(json)} `) {
      // A write that was cut short leaves no newline; what has one, or holds two entries, was changed.
      const isLast = index === lines.length - 2;
      if (isLast && !/[0-9a-f]{8} \{/.test(json)) break;
      throw new JournalDamaged(`line ${index + 1} does not match its checksum`);
    }
    entries.push(JSON.parse(json) as JournalEntry);
    wholeBytes += Buffer.byteLength(line) + 1;
  }
  const [first, ...rest] = entries;
  if (first === undefined) return undefined;
  return { job: fold([first, ...rest]), entries: [first, ...rest], wholeBytes };
}

/** Reads every journal of a state folder, which is made if it is not there. */
export async function readJournals(
  folder: string,
): Promise<readonly { readonly id: string; readonly read: ReadJournal | Error | undefined }[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = (await readdir(folder)).filter((name) => name.endsWith(SUFFIX));
  return await Promise.all(
    names.map(async (name) => {
      const id = name.slice(0, -SUFFIX.length);
      try {
        return { id, read: decodeJournal(await readFile(join(folder, name), 'utf8')) };
      } catch (error) {
        return { id, read: error instanceof Error ? error : new Error(String(error)) };
      }
    }),
  );
}

/** A new file's name is on disk only when its folder is. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
