import {
  appendFile,
  copyFile,
  mkdir,
  open,
  readFile,
  rename,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { decodeJournal, encodeLine, Journal, JournalDamaged } from '../../../../src/agent/journal/journal.ts';
import { failure } from '../../../../src/core/errors.ts';
import { advance, allows, fold, IllegalTransition } from '../../../../src/core/job/job.ts';
import type { EntryBody, JournalEntry } from '../../../../src/core/job/journal-entry.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { allJournals } from '../../../support/service/journals.ts';
import {
  ACCEPTED,
  CANCEL,
  CREATED,
  FINISH,
  FORCE,
  HELD,
  JOB,
  jobOf,
  journalOf,
  OUTCOME,
  pivot,
  READY,
  RUNNING,
  timeOf,
} from '../../core/stories.ts';

const ENTRIES = journalOf({ ...ACCEPTED, domain: 'Bär ✓ 🐻' }, CREATED, RUNNING, READY);
const SECOND: JournalEntry = { ...CREATED, revision: 2, time: timeOf(2) };
const LINES = ENTRIES.map((entry) => Buffer.from(encodeLine(entry)));
const WHOLE = Buffer.concat(LINES);

/** The length of the first `count` lines, in bytes. */
function bytesOf(count: number): number {
  return LINES.slice(0, count).reduce((sum, line) => sum + line.length, 0);
}

function linesOf(...indices: number[]): string {
  return indices.map((index) => LINES[index]?.toString('utf8')).join('');
}

/** Reads the journal with one byte changed. */
const changed = (at: number, to: (byte: number) => number) => {
  const bytes = Buffer.from(WHOLE);
  bytes.writeUInt8(to(bytes.readUInt8(at)), at);
  return () => decodeJournal(bytes);
};

async function readOne(folder: string) {
  const [one] = await allJournals(folder);
  if (one === undefined || one.read === undefined || one.read instanceof Error)
    throw new Error('no whole journal', { cause: one?.read });
  return one.read;
}

declare function writePart(data: Uint8Array, options: { position: number }): Promise<unknown>;

afterEach(() => {
  vi.restoreAllMocks();
});

/** The methods of every FileHandle. A spy on them sees the actions on any file. */
async function fileHandles(folder: string) {
  const handle = await open(folder);
  await handle.close();
  return Object.getPrototypeOf(handle) as typeof handle;
}

function enospc(): Error {
  return Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
}

const text = fc.string({ unit: 'binary' });
const failures = text.map((why) => failure('JOB_LOST', { job: JOB, why }));
const anyBody: fc.Arbitrary<EntryBody> = fc.oneof(
  text.map((step) => ({ entry: 'step-started', step }) as const),
  fc.constant(CREATED),
  fc.record({ entry: fc.constant('step-refused' as const), step: text, failure: failures }),
  fc.record({ entry: fc.constant('undo-failed' as const), step: text, failure: failures }),
  fc.constantFrom(RUNNING, READY, pivot(), CANCEL, FORCE, FINISH, HELD),
  fc.constantFrom(RUNNING, READY),
  text.map((because) => ({ entry: 'guest-held', because }) as const),
  fc.record({
    entry: fc.constant('concluded' as const),
    how: fc.constantFrom('CONCLUDED', 'VANISHED', 'QEMU_ENDED', 'GIVEN_UP'),
    qemuError: fc.option(text, { nil: undefined }),
    deviceOn: fc.constantFrom('SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'),
    devicePath: fc.option(text, { nil: undefined }),
  }),
  failures.map((why) => ({ entry: 'ended', state: 'FAILED', failure: why, outcome: OUTCOME }) as const),
);

/** A journal that a job can have, of any length. */
const anyJournal = fc.array(anyBody, { maxLength: 30 }).map((tries) => {
  const story: EntryBody[] = [];
  let job = jobOf();
  for (const body of tries) {
    if (!allows(job, body)) continue;
    story.push(body);
    job = advance(job, { ...body, revision: job.revision + 1, time: '' });
  }
  return journalOf(ACCEPTED, ...story);
});

describe('a journal in bytes', () => {
  it('contains what was written, whatever it was', () => {
    fc.assert(
      fc.property(anyJournal, (entries) => {
        const written = entries.map(encodeLine).join('');
        const read = decodeJournal(Buffer.from(written));
        expect(read?.entries).toEqual(entries);
        expect(read?.job).toEqual(fold(entries));
        expect(read?.wholeBytes).toBe(Buffer.byteLength(written));
      }),
    );
  });

  it('has one line for each entry, however many lines a text in it has', () => {
    const entry: JournalEntry = { entry: 'step-started', step: 'a\nb\r\u2028c', revision: 2, time: '' };
    expect(encodeLine(entry)).toMatch(/^[0-9a-f]{8} \{.*\}\n$/s);
    expect(encodeLine(entry).split('\n')).toHaveLength(2);
  });

  it('keeps all whole entries, wherever it was torn', () => {
    for (let length = 0; length < WHOLE.length; length += 1) {
      const whole = LINES.findIndex((_, index) => bytesOf(index + 1) > length);
      const read = decodeJournal(WHOLE.subarray(0, length));
      expect(read?.entries, `${length} bytes`).toEqual(whole === 0 ? undefined : ENTRIES.slice(0, whole));
      expect(read?.wholeBytes).toBe(whole === 0 ? undefined : bytesOf(whole));
    }
  });

  it('counts nothing from the first torn line of one write on, whichever part of the write is on disk', () => {
    const [before, results] = [bytesOf(2), bytesOf(3)];
    const last = Buffer.from(encodeLine({ ...READY, revision: 4, time: timeOf(4), joined: true }));
    const written = Buffer.concat([WHOLE.subarray(0, results), last]);
    for (let from = before; from < written.length; from += 1) {
      for (const to of [from + 1, (from + written.length + 1) >> 1, results, written.length].filter(
        (at) => at > from,
      )) {
        const torn = Buffer.from(written);
        torn.fill(0, from, to);
        const whole = from < results ? 2 : 3;
        expect(decodeJournal(torn)?.entries, `${from} to ${to}`).toEqual(ENTRIES.slice(0, whole));
      }
    }
  });

  it('is refused if a line has changed that was not of the last write', () => {
    const joined = encodeLine({ ...READY, revision: 4, time: timeOf(4), joined: true });
    const later = encodeLine({ ...HELD, revision: 5, time: timeOf(5) });
    for (const after of [joined + later, `no entry\n${joined}`]) {
      const torn = Buffer.from(linesOf(0, 1, 2) + after);
      torn.fill(0, bytesOf(2) + 20, bytesOf(2) + 21);
      expect(() => decodeJournal(torn)).toThrow(JournalDamaged);
    }
  });

  it('does not count a last line that does not match its checksum, nor zeroes that a crash left behind', () => {
    const torn = Buffer.from(WHOLE);
    torn.fill(0, bytesOf(3) + 20, WHOLE.length - 1);
    expect(decodeJournal(torn)?.entries).toEqual(ENTRIES.slice(0, 3));
    const zeroes = Buffer.concat([WHOLE, Buffer.alloc(100)]);
    const read = decodeJournal(zeroes);
    expect(read?.entries).toEqual(ENTRIES);
    expect(read?.wholeBytes).toBe(WHOLE.length);
  });

  /** The bytes of all lines except the last, by their kind. */
  const middle = Array.from({ length: bytesOf(3) }, (_, at) => at);
  const isSpace = (at: number) => [0, 1, 2].some((line) => at === bytesOf(line) + 8);
  const lastNewline = bytesOf(3) - 1;

  it('is refused when any byte of a middle line has changed', () => {
    for (const at of middle.filter((one) => !isSpace(one) && one !== lastNewline)) {
      expect(
        changed(at, (byte) => byte ^ 1),
        `byte ${at}`,
      ).toThrow(JournalDamaged);
      expect(
        changed(at, (byte) => (byte === 10 ? 0 : 10)),
        `byte ${at}, a newline`,
      ).toThrow(JournalDamaged);
    }
  });

  it('is refused when the newline before the last line has changed, which makes two lines one', () => {
    expect(changed(lastNewline, (byte) => byte ^ 1)).toThrow(JournalDamaged);
  });

  it('is refused when the space behind a checksum has changed', () => {
    expect(changed(8, (byte) => byte ^ 1)).toThrow(JournalDamaged);
  });

  it('is refused when a line is missing, doubled, or in another place', () => {
    for (const wrong of [linesOf(0, 2), linesOf(0, 1, 1), linesOf(0, 2, 1), linesOf(1, 2)])
      expect(() => decodeJournal(Buffer.from(wrong))).toThrow(IllegalTransition);
    expect(() => decodeJournal(Buffer.from(`${linesOf(0)}\n${linesOf(1)}`))).toThrow(JournalDamaged);
  });
});

describe('a journal on disk', () => {
  it('has each entry when append returns, and only its owner can read it', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    for (const [index, entry] of ENTRIES.entries()) {
      await journal.append(entry);
      expect(await readFile(join(dir.path, `${JOB}.jsonl`))).toEqual(WHOLE.subarray(0, bytesOf(index + 1)));
    }
    await using file = await open(join(dir.path, `${JOB}.jsonl`));
    expect((await file.stat()).mode & 0o777).toBe(0o600);
    await journal.close();
  });

  it('is never overwritten by another job of the same name', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    await expect(Journal.begin(dir.path, JOB, [])).rejects.toMatchObject({ code: 'EEXIST' });
    expect((await readOne(dir.path)).entries).toHaveLength(1);
    await journal.close();
  });

  it('is synced before append returns', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    const handles = await fileHandles(dir.path);
    const reached = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    vi.spyOn(handles, 'datasync').mockImplementation(async () => {
      reached.resolve();
      await gate.promise;
    });
    let returned = false;
    const appending = journal.append(ENTRIES[0]).then(() => {
      returned = true;
    });
    await reached.promise;
    // The line is written by now, and everything that does not need the sync has been done.
    expect((await readOne(dir.path)).entries).toHaveLength(1);
    expect(returned).toBe(false);
    gate.resolve();
    await appending;
    await journal.close();
  });

  it('has its name on disk when create returns, and does not exist if that fails', async () => {
    await using dir = await testDir();
    const handles = await fileHandles(dir.path);
    const sync = vi.spyOn(handles, 'sync');
    const journal = await Journal.begin(dir.path, JOB, []);
    expect(sync).toHaveBeenCalledOnce();
    await journal.close();

    sync.mockRejectedValueOnce(new Error('EIO'));
    await expect(Journal.begin(dir.path, 'bj2', [])).rejects.toThrow('EIO');
    expect((await allJournals(dir.path)).map(({ id }) => id)).toEqual([JOB]);
  });

  it('is whole after a write that stopped in the middle, and takes the entry again', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    const handles = await fileHandles(dir.path);
    const write: typeof writePart = Reflect.get(handles, 'write');
    vi.spyOn(handles, 'write')
      .mockImplementationOnce(async function half(this: typeof handles, ...args: readonly unknown[]) {
        const [data, , , position] = args as [Buffer, number, number, number];
        return await write.call(this, data.subarray(0, 10), { position });
      } as unknown as typeof handles.write)
      .mockRejectedValueOnce(enospc());
    await expect(journal.append(SECOND)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await readFile(join(dir.path, `${JOB}.jsonl`))).toEqual(LINES[0]);

    await journal.append(SECOND);
    expect((await readOne(dir.path)).entries).toEqual(ENTRIES.slice(0, 2));
    await journal.close();
  });

  it('is whole after a sync that failed', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    const handles = await fileHandles(dir.path);
    vi.spyOn(handles, 'datasync').mockRejectedValueOnce(Object.assign(new Error('EIO'), { code: 'EIO' }));
    await expect(journal.append(SECOND)).rejects.toThrow('EIO');
    expect((await readOne(dir.path)).entries).toEqual([ENTRIES[0]]);
    await journal.close();
  });

  it('is readable after a failure that could not be cleaned up, and after the next entry', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    const handles = await fileHandles(dir.path);
    vi.spyOn(handles, 'datasync').mockRejectedValueOnce(new Error('EIO'));
    vi.spyOn(handles, 'truncate').mockRejectedValueOnce(new Error('EIO'));
    const long: JournalEntry = { entry: 'step-started', step: 'x'.repeat(1000), revision: 2, time: '' };
    await expect(journal.append(long)).rejects.toThrow('EIO');
    await journal.append({ ...RUNNING, revision: 2, time: '' });
    expect((await readOne(dir.path)).job.state).toBe('RUNNING');
    await journal.close();
  });

  it('is as it was when the file is closed under it', async () => {
    await using dir = await testDir();
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    await journal.close();
    await expect(journal.append(SECOND)).rejects.toThrow('closed');
    expect((await readOne(dir.path)).entries).toEqual([ENTRIES[0]]);
  });

  it('continues after its last whole entry, wherever it was torn', async () => {
    await using dir = await testDir();
    const path = join(dir.path, `${JOB}.jsonl`);
    for (let length = bytesOf(1); length <= WHOLE.length; length += 7) {
      await writeFile(path, WHOLE.subarray(0, length));
      const read = await readOne(dir.path);
      const { wholeBytes, job } = read;
      const journal = await Journal.reopen(dir.path, JOB, read);
      const next: JournalEntry = { entry: 'step-started', step: 's', revision: job.revision + 1, time: '' };
      await journal.append(next);
      await journal.close();
      expect((await readOne(dir.path)).entries).toEqual([...ENTRIES.slice(0, job.revision), next]);
      const whole = WHOLE.subarray(0, wholeBytes).toString('utf8');
      expect(await readFile(path, 'utf8'), `torn at ${length}`).toBe(whole + encodeLine(next));
    }
  });
});

describe('a journal that another program has changed', () => {
  it.each<[what: string, change: (path: string) => Promise<unknown>]>([
    ['has grown', async (path) => await appendFile(path, LINES[1] ?? '')],
    ['has shrunk', async (path) => await truncate(path, 10)],
    [
      'is another file, as an editor makes one',
      async (path) => {
        await copyFile(path, `${path}~`);
        await rename(`${path}~`, path);
      },
    ],
    ['is a link now', async (path) => await rename(path, `${path}~`).then(() => symlink(`${path}~`, path))],
    ['is gone', async (path) => await unlink(path)],
  ])('as it %s, is not written to', async (_what, change) => {
    await using dir = await testDir();
    const path = join(dir.path, `${JOB}.jsonl`);
    const journal = await Journal.begin(dir.path, JOB, []);
    await journal.append(ENTRIES[0]);
    await change(path);
    const after = await readFile(path, 'utf8').catch(() => undefined);
    await expect(journal.append(SECOND)).rejects.toThrow('was changed by another process');
    expect(await readFile(path, 'utf8').catch(() => undefined)).toBe(after);
    await journal.close();
  });

  it('between its being read and its being opened, is not written to', async () => {
    await using dir = await testDir();
    const path = join(dir.path, `${JOB}.jsonl`);
    await writeFile(path, linesOf(0, 1));
    const read = await readOne(dir.path);
    await appendFile(path, LINES[2] ?? '');
    const journal = await Journal.reopen(dir.path, JOB, read);
    await expect(journal.append({ ...RUNNING, revision: 3, time: '' })).rejects.toThrow(
      'was changed by another process',
    );
    expect(await readFile(path, 'utf8')).toBe(linesOf(0, 1, 2));
    await journal.close();
  });
});

describe('the journals of a folder', () => {
  it('do not exist in a folder that does not exist yet; it is made, for its owner alone', async () => {
    await using dir = await testDir();
    const folder = join(dir.path, 'state', 'jobs');
    expect(await allJournals(folder)).toEqual([]);
    await using handle = await open(folder);
    expect((await handle.stat()).mode & 0o777).toBe(0o700);
  });

  it('are of four kinds: whole, never accepted, damaged, unreadable; other files are not journals', async () => {
    await using dir = await testDir();
    const first = LINES[0] ?? Buffer.alloc(0);
    await writeFile(join(dir.path, 'whole.jsonl'), WHOLE);
    await writeFile(join(dir.path, 'empty.jsonl'), '');
    await writeFile(join(dir.path, 'torn.jsonl'), first.subarray(0, 30));
    await writeFile(join(dir.path, 'damaged.jsonl'), WHOLE.toString('utf8').replace('"running"', '"runninG"'));
    await mkdir(join(dir.path, 'folder.jsonl'));
    await writeFile(join(dir.path, 'README'), 'hello');
    const found = new Map((await allJournals(dir.path)).map(({ id, read }) => [id, read]));
    expect([...found.keys()].toSorted()).toEqual(['damaged', 'empty', 'folder', 'torn', 'whole']);
    expect(found.get('whole')).toMatchObject({ job: { state: 'READY' }, wholeBytes: WHOLE.length });
    expect(found.get('empty')).toBeUndefined();
    expect(found.get('torn')).toBeUndefined();
    expect(found.get('damaged')).toBeInstanceOf(JournalDamaged);
    expect(found.get('folder')).toMatchObject({ message: 'it is not a file' });
  });
});
