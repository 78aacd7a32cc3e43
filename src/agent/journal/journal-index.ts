/**
 * The index of ended jobs: the facts that are always needed, in one file, so that a start need not read each journal.
 * It is never believed over a journal: a line counts only while its journal is the same, unchanged file. It is written
 * after a service has begun, and may be lost, old or damaged: then journals are read.
 */
import { type BigIntStats, constants } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClockStamp } from '../../core/job/journal-entry.ts';
import type { KnownJob } from '../../core/job/known-job.ts';
import type { StepState } from '../../core/job/steps.ts';
import { isOwn } from '../host/own-files.ts';
import type { SharedTexts } from '../host/shared-texts.ts';
import type { Told } from './ended-job.ts';
import { checksum, PLAIN } from './journal.ts';

/** An index of another version is not read. */
const VERSION = 2;
const NAME = 'ended-jobs';
/** A line has one or two thousand; reading ends at a longer one than this. */
const ROOM_BYTES = 1024 * 1024;
/** A hundred thousand jobs. */
const LONGEST_BYTES = 256 * 1024 * 1024;
const NEWLINE = 10;

/** The state of a journal that has a line: any change of the file changes a part of it. */
export function stampOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

export interface Indexed {
  /** The journal's file. */
  readonly id: string;
  readonly stamp: string;
  readonly told: Told;
  /** The last revision in the journal. */
  readonly clock: ClockStamp | undefined;
}

/** The content of a line. */
interface Line extends Omit<Indexed, 'told'> {
  readonly version: number;
  readonly told: Omit<Told, 'job'> & {
    readonly job: Omit<KnownJob, 'steps'> & { readonly steps: [string, StepState][] };
  };
}

export class JournalIndex {
  readonly #path: string;
  readonly #lines: ReadonlyMap<string, Indexed>;

  private constructor(path: string, lines: ReadonlyMap<string, Indexed>) {
    this.#path = path;
    this.#lines = lines;
  }

  /** `folder`: the state folder. An index that cannot be read counts as empty. */
  static async read(folder: string, texts: SharedTexts): Promise<JournalIndex> {
    const path = join(folder, NAME);
    const lines = new Map<string, Indexed>();
    try {
      for await (const bytes of linesOf(path)) {
        const line = lineIn(bytes, texts);
        if (line !== undefined) lines.set(line.id, line);
      }
    } catch {
      // Journals are read instead.
    }
    return new JournalIndex(path, lines);
  }

  /** The known facts of a journal, if it is unchanged. */
  find(id: string, look: () => BigIntStats | undefined): Indexed | undefined {
    const line = this.#lines.get(id);
    const there = line && look();
    return there && line.stamp === stampOf(there) ? line : undefined;
  }

  /** Rejects with the file system's error; then the previous file stays, or there is none. */
  async save(all: readonly Indexed[]): Promise<void> {
    const isSame = all.length === this.#lines.size && all.every((one) => this.#lines.get(one.id) === one);
    if (isSame) return;
    const next = `${this.#path}.new`;
    try {
      await write(next, all);
      await rename(next, this.#path);
    } catch (error) {
      // Journals need the space.
      await unlink(next).catch(() => undefined);
      throw error;
    }
  }
}

const AT_ONCE = 256;

async function write(path: string, all: readonly Indexed[]): Promise<void> {
  await using file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | PLAIN, 0o600);
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const lines = all.slice(at, at + AT_ONCE).map(textOf);
    await file.appendFile(lines.join(''));
  }
}

function textOf({ told, ...rest }: Indexed): string {
  const job = { ...told.job, steps: [...told.job.steps] };
  const json = JSON.stringify({ version: VERSION, ...rest, told: { ...told, job } });
  return `${checksum(json)} ${json}\n`;
}

function lineIn(bytes: Buffer, texts: SharedTexts): Indexed | undefined {
  const json = bytes.subarray(9);
  if (bytes.toString('latin1', 0, 9) !== `${checksum(json)} `) return undefined;
  const { version, told, ...rest } = texts.share(JSON.parse(json.toString()) as Line);
  if (version !== VERSION) return undefined;
  // A map for each: with one for all empty ones, the process was measured to keep 30 MiB more (make bench).
  return { ...rest, told: { ...told, job: { ...told.job, steps: new Map(told.job.steps) } } };
}

/** Without all of it in memory at once. */
async function* linesOf(path: string): AsyncGenerator<Buffer> {
  await using file = await open(path, constants.O_RDONLY | PLAIN);
  const stats = await file.stat();
  if (!stats.isFile() || !isOwn(stats) || stats.size > LONGEST_BYTES) return;
  const room = Buffer.allocUnsafe(ROOM_BYTES);
  for (let [kept, more] = [0, -1]; more !== 0; ) {
    more = (await file.read(room, kept, room.length - kept)).bytesRead;
    const bytes = room.subarray(0, kept + more);
    let from = 0;
    for (let end = 0; (end = bytes.indexOf(NEWLINE, from)) !== -1; from = end + 1) yield bytes.subarray(from, end);
    kept = bytes.copy(room, 0, from);
  }
}
