/**
 * One append-only file per job, readable with `cat`: each line is an entry's CRC-32 in hex, a space, the entry as JSON.
 * Entries are on disk (fsync) when `append` returns. Last lines that a crash has torn do not count.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fail } from '../../core/errors.ts';
import { fold, type Job } from '../../core/job/job.ts';
import type { JournalEntry } from '../../core/job/journal-entry.ts';
import { allDone } from '../../lib/all-done.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';

export const SUFFIX = '.jsonl';

/** The identity of the file, whatever is at its name. */
interface Opened {
  readonly file: FileHandle;
  readonly device: bigint;
  readonly inode: bigint;
}

export class Journal {
  readonly #path: string;
  readonly #observer: Observer;
  #opened: Opened | undefined;
  /** The bytes of complete entries. */
  #bytes: number;
  /** The bytes of ours that may follow them: of a failed append that could not be undone. Empty otherwise. */
  #torn: number;

  private constructor(path: string, bytes: number, torn: number, observer: Observer) {
    this.#path = path;
    this.#observer = observer;
    this.#bytes = bytes;
    this.#torn = torn;
  }

  /** Writes the first entries of a new file. If it fails there is no file. */
  static async begin(folder: string, job: string, entries: readonly JournalEntry[], observer = NOBODY) {
    const journal = new Journal(join(folder, job + SUFFIX), 0, 0, observer);
    journal.#opened = await identified(
      await open(journal.#path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600),
    );
    // Neither has to wait for the other.
    try {
      await allDone(syncFolder(folder), journal.append(...entries));
    } catch (error) {
      await journal.remove();
      throw error;
    }
    return journal;
  }

  /**
   * Continues after the last complete entry; a torn one behind it is cut off. Opening is tried again at each append, if
   * it fails: the job is known nevertheless.
   */
  static async reopen(
    folder: string,
    job: string,
    { wholeBytes, sizeBytes }: Pick<ReadJournal, 'wholeBytes' | 'sizeBytes'>,
    observer = NOBODY,
  ): Promise<Journal> {
    const journal = new Journal(join(folder, job + SUFFIX), wholeBytes, sizeBytes - wholeBytes, observer);
    await journal.#file().catch(() => undefined);
    return journal;
  }

  get folder(): string {
    return dirname(this.#path);
  }

  /** All entries or none: if it fails nothing of them remains, and they may be appended again. */
  async append(...entries: readonly JournalEntry[]): Promise<void> {
    const lines = Buffer.from(entries.map(encodeLine).join(''));
    const file = await this.#file();
    try {
      this.#torn = Math.max(this.#torn, lines.length);
      let written = 0;
      while (written < lines.length) {
        const { bytesWritten } = await file.write(lines, written, lines.length - written, this.#bytes + written);
        written += bytesWritten;
      }
      await this.#observer.during({ does: 'sync' }, async () => await file.datasync());
    } catch (error) {
      await this.#cut(file).catch(() => undefined);
      throw error;
    }
    this.#bytes += lines.length;
    this.#torn = Math.max(0, this.#torn - lines.length);
  }

  /** The file, if no other process has written to it. Throws ACCESS_DENIED otherwise. */
  async #file(): Promise<FileHandle> {
    this.#opened ??= await identified(await open(this.#path, constants.O_WRONLY | PLAIN));
    const { file, device, inode } = this.#opened;
    const there = await lstat(this.#path, { bigint: true }).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      return undefined;
    });
    const behind = there?.dev === device && there.ino === inode ? Number(there.size) - this.#bytes : -1;
    if (behind < 0 || behind > this.#torn)
      fail('ACCESS_DENIED', { path: this.#path, why: 'this journal was changed by another process' });
    if (behind > 0) await this.#cut(file);
    return file;
  }

  async #cut(file: FileHandle): Promise<void> {
    await file.truncate(this.#bytes);
    this.#torn = 0;
  }

  async close(): Promise<void> {
    await this.#opened?.file.close();
  }

  async remove(): Promise<void> {
    await this.close();
    await unlink(this.#path);
  }
}

/** A FIFO would block, and a link leads elsewhere. */
export const PLAIN = constants.O_NOFOLLOW | constants.O_NONBLOCK;

async function identified(file: FileHandle): Promise<Opened> {
  try {
    const { dev, ino } = await file.stat({ bigint: true });
    return { file, device: dev, inode: ino };
  } catch (error) {
    await file.close();
    throw error;
  }
}

export function encodeLine(entry: JournalEntry): string {
  const json = JSON.stringify(entry);
  return `${checksum(json)} ${json}\n`;
}

export function checksum(json: string | Buffer): string {
  return crc32(json).toString(16).padStart(8, '0');
}

/** A line in the middle that does not match its checksum: the disk or a person changed it. */
export class JournalDamaged extends Error {
  override readonly name = 'JournalDamaged';
}

export interface ReadJournal {
  readonly job: Job;
  readonly entries: readonly [JournalEntry, ...JournalEntry[]];
  /** The bytes of complete entries. */
  readonly wholeBytes: number;
  /** The bytes of the file. */
  readonly sizeBytes: number;
}

const NEWLINE = 10;
/** The checksum and a space. */
const HEAD_BYTES = 9;

/** Undefined for a journal without a complete first entry: that job was never accepted. */
export function decodeJournal(bytes: Buffer): ReadJournal | undefined {
  const entries: JournalEntry[] = [];
  let wholeBytes = 0;
  // The rest after the last newline was torn.
  for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, wholeBytes)) {
    const entry = decodeLine(bytes.subarray(wholeBytes, end));
    if (entry === undefined) {
      if (isTorn(bytes.toString('utf8', wholeBytes))) break;
      throw new JournalDamaged(`line ${entries.length + 1} does not match its checksum`);
    }
    entries.push(entry);
    wholeBytes = end + 1;
  }
  const [first, ...rest] = entries;
  if (first === undefined) return undefined;
  return { job: fold([first, ...rest]), entries: [first, ...rest], wholeBytes, sizeBytes: bytes.length };
}

/** Undefined if it does not match its checksum. */
function decodeLine(line: Buffer): JournalEntry | undefined {
  const json = line.subarray(HEAD_BYTES);
  const isWhole = line.toString('latin1', 0, HEAD_BYTES) === `${checksum(json)} `;
  return isWhole ? (JSON.parse(json.toString()) as JournalEntry) : undefined;
}

/**
 * Whether one write can have left this, from a line on that is not whole. The disk may have the later part of a write
 * and not the earlier one: the lines that follow are then whole, and were written with it. Otherwise it was changed.
 */
function isTorn(rest: string): boolean {
  const [torn = '', ...others] = rest.split(/(?=[0-9a-f]{8} \{)/);
  const isJoined = (text: string, at: number) =>
    text.endsWith('\n')
      ? decodeLine(Buffer.from(text.slice(0, -1)))?.joined === true
      : at === others.length - 1 && !text.includes('\n');
  return torn.split('\n').length <= 2 && others.every(isJoined);
}

/** The name of a new file is on disk only when its folder is synced. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  await handle.sync();
}
