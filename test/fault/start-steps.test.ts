/**
 * Every step of a start × {refused, connection lost before QEMU executed it, lost after} and every undo × {lost before,
 * lost after, refused}: the start is undone (or, if the mirror runs, adopted), and nothing is left.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { Journal } from '../../src/agent/journal/journal.ts';
import { BlockJobError } from '../../src/core/errors.ts';
import type { JobView } from '../../src/core/job/job-view.ts';
import type { JournalEntry } from '../../src/core/job/journal-entry.ts';
import { FakeQemu, type Line } from '../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { copyTo, PATIENT, TestAgent } from '../support/service/agent.ts';

type Format = 'RAW' | 'QCOW2';

/** The commands of a start, in order; a command that occurs twice is named once for each time. */
const STEPS: Record<Format, readonly string[]> = {
  RAW: ['blockdev-add', 'blockdev-add', 'blockdev-mirror'],
  QCOW2: ['blockdev-add', 'blockdev-create', 'job-dismiss', 'blockdev-add', 'blockdev-mirror'],
};
/** The commands that undo a start when its mirror is refused. */
const UNDOS = ['blockdev-del', 'blockdev-del'];
const TEXT = 'said the test';

interface World extends AsyncDisposable {
  readonly dir: string;
  readonly qemu: FakeQemu;
  readonly agent: TestAgent;
  readonly destination: string;
  start(format: Format): Promise<JobView | BlockJobError>;
  /** Nothing in QEMU, on disk or in the journals shows the failed start. */
  expectNothingLeft(files?: readonly string[]): Promise<void>;
}

async function world(onLine: (line: Line) => void = () => undefined, complaints?: RegExp): Promise<World> {
  await using cleanUp = new AsyncDisposableStack();
  const { path: dir } = cleanUp.use(await testDir('bj-fault-'));
  const socketPath = `${dir}/qmp.sock`;
  const chain = [{ format: 'qcow2', path: `${dir}/disk.qcow2` }] as const;
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  const qemu = cleanUp.use(await FakeQemu.start({ socketPath, name: 'vm1', disks, sizeBytes: 1024 * 1024, onLine }));
  const agent = cleanUp.use(
    await TestAgent.start({ dir, qmp: { vm1: socketPath }, allow: [dir], ...(complaints && { complaints }) }),
  );
  const nodes = qemu.nodes;
  const destination = `${dir}/copy`;
  const owned = cleanUp.move();
  return {
    dir,
    qemu,
    agent,
    destination,
    async start(format) {
      try {
        return await agent.startCopy(copyTo(destination, { format }));
      } catch (error) {
        if (error instanceof BlockJobError) return error;
        throw error;
      }
    },
    async expectNothingLeft(files = []) {
      expect(qemu.pendingFaults).toBe(0);
      expect(qemu.nodes).toEqual(nodes);
      expect(qemu.jobs).toEqual([]);
      expect(qemu.rootOf('vd0')).toBe('vd0-0');
      expect((await readdir(dir)).filter((name) => name.startsWith('copy'))).toEqual(files);
      const all = { domain: '', states: [], pageSize: 0, pageToken: '' };
      expect((await agent.agent.listJobs(all, PATIENT)).items).toEqual([]);
      expect(await readdir(agent.jobsFolder)).toEqual([]);
    },
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

/** The nth command of this name, counted from 1, meets the fault. */
function inject(qemu: FakeQemu, how: 'refused' | 'lost before' | 'lost after', command: string, nth: number): void {
  if (how === 'refused') qemu.failNext(command, TEXT, nth);
  else if (how === 'lost before') qemu.dropConnectionBefore(command, nth);
  else qemu.dropConnectionAfter(command, nth);
}

/** The write of the nth entry from now on finds the state folder full; later ones do not. */
function fullAtEntry(nth: number): { wasFull: () => boolean } & Disposable {
  const append = Reflect.get<Journal, 'append'>(Journal.prototype, 'append');
  let count = 0;
  const spy = vi.spyOn(Journal.prototype, 'append').mockImplementation(async function (
    this: Journal,
    ...entries: JournalEntry[]
  ) {
    const isReached = count >= nth;
    count += entries.length;
    if (!isReached && count >= nth)
      throw Object.assign(new Error('no space left on device, write'), { code: 'ENOSPC' });
    await append.apply(this, entries);
  });
  return { wasFull: () => count >= nth, [Symbol.dispose]: () => spy.mockRestore() };
}

function numbered(commands: readonly string[]): { command: string; nth: number }[] {
  return commands.map((command, index) => ({
    command,
    nth: commands.slice(0, index + 1).filter((one) => one === command).length,
  }));
}

describe.each(['RAW', 'QCOW2'] as const)('a start of a %s copy', (format) => {
  const steps = numbered(STEPS[format]);

  test('these are its commands, and no others change anything', async () => {
    await using here = await world();
    const view = await here.start(format);
    expect(view).toMatchObject({ job: { state: 'RUNNING' } });
    expect(here.qemu.changes).toEqual(STEPS[format]);
  });

  // job-dismiss is refused only if another client was faster: see below.
  const refusable = steps.filter(({ command }) => command !== 'job-dismiss');

  test.each(refusable)('$command, number $nth, is refused', async ({ command, nth }) => {
    await using here = await world();
    inject(here.qemu, 'refused', command, nth);
    const answer = await here.start(format);
    expect(answer).toMatchObject({ failure: { reason: 'REFUSED_BY_QEMU', metadata: { qemuText: TEXT } } });
    await here.expectNothingLeft();
  });

  test.each(steps)('the connection is lost before $command, number $nth, is executed', async ({ command, nth }) => {
    await using here = await world();
    inject(here.qemu, 'lost before', command, nth);
    const answer = await here.start(format);
    expect(answer).toMatchObject({ failure: { reason: 'QEMU_UNREACHABLE' } });
    await here.expectNothingLeft();
  });

  const takenBack = steps.filter(({ command }) => command !== 'blockdev-mirror');

  test.each(takenBack)('the connection is lost after $command, number $nth, was executed', async ({ command, nth }) => {
    await using here = await world();
    inject(here.qemu, 'lost after', command, nth);
    const answer = await here.start(format);
    expect(answer).toMatchObject({ failure: { reason: 'QEMU_UNREACHABLE' } });
    await here.expectNothingLeft();
  });

  test('the connection is lost after the mirror began: it is adopted, and does not differ from any other', async () => {
    await using here = await world();
    inject(here.qemu, 'lost after', 'blockdev-mirror', 1);
    const answer = await here.start(format);
    expect(answer).toMatchObject({ job: { state: 'RUNNING', failure: undefined } });
    const [id = ''] = here.qemu.jobs;
    here.qemu.job(id).becomeReady();
    expect(await here.agent.until(id, 'READY')).toBe('READY');
    const pivot = {
      job: { jobId: id },
      pivot: true,
      returnImmediately: false,
      force: false,
      pauseGuest: undefined,
      requestId: '',
    };
    expect(await here.agent.agent.abort(pivot, PATIENT)).toMatchObject({ job: { state: 'COMPLETED' } });
    expect(here.qemu.nodes).toEqual([`${id}-file`, id]);
    expect(here.qemu.rootOf('vd0')).toBe(id);
  });

  // One entry for accepted, and two for each step: its begin and its end.
  const entries = { RAW: 11, QCOW2: 13 }[format];
  const allButLast = Array.from({ length: entries - 1 }, (_, index) => index + 1);

  test.each(allButLast)(
    'the journal has no room for entry %i: all steps are undone, and the error says why',
    async (nth) => {
      await using here = await world(() => undefined, /The start of the job failed/);
      using _full = fullAtEntry(nth);
      const answer = await here.start(format);
      const text = expect.stringContaining('ENOSPC: the file system is full') as string;
      expect(answer).toMatchObject({
        failure: { reason: 'NO_SPACE', text, metadata: { path: here.agent.jobsFolder } },
      });
      await here.expectNothingLeft();
    },
  );

  test('the journal has no room for the last entry: the mirror runs, without harm', async () => {
    // It is written with the entry that follows.
    await using here = await world(() => undefined, /A move of the job failed/);
    using full = fullAtEntry(entries);
    expect(await here.start(format)).toMatchObject({ job: { state: 'RUNNING' } });
    expect(full.wasFull()).toBe(true);
  });

  describe.each(numbered(UNDOS))('while the start is being undone, at $command, number $nth', ({ command, nth }) => {
    test.each(['lost before', 'lost after'] as const)('the connection is %s it was executed', async (how) => {
      await using here = await world();
      here.qemu.failNext('blockdev-mirror', TEXT);
      inject(here.qemu, how, command, nth);
      const answer = await here.start(format);
      expect(answer).toMatchObject({ failure: { reason: 'REFUSED_BY_QEMU', metadata: { qemuText: TEXT } } });
      await here.expectNothingLeft();
    });
  });

  test('an undo that QEMU refuses leaves a job that lists its leftovers', async () => {
    await using here = await world();
    here.qemu.failNext('blockdev-mirror', TEXT);
    here.qemu.failNext('blockdev-del', 'Node is held by the test');
    const answer = await here.start(format);
    expect(answer).toMatchObject({ failure: { reason: 'REFUSED_BY_QEMU', metadata: { qemuText: TEXT } } });
    const all = { domain: '', states: [], pageSize: 0, pageToken: '' };
    const { items: jobs } = await here.agent.agent.listJobs(all, PATIENT);
    expect(jobs).toMatchObject([{ job: { state: 'FAILED', failure: { reason: 'REFUSED_BY_QEMU' } } }]);
    const { items: leftovers } = await here.agent.agent.listLeftovers(all, PATIENT);
    const job = jobs[0]?.job.accepted.job;
    const nodes = leftovers.filter(({ kind, jobId }) => kind === 'NODE' && jobId === job);
    expect(nodes.map(({ name }) => name)).toEqual([job, `${job}-file`]);
    expect(await readdir(here.agent.jobsFolder)).toHaveLength(1);
  });

  test('the mirror fails at once, after its answer', async () => {
    await using here = await world();
    // A job that QEMU starts and then ends, as for different sizes: still a refusal for the caller.
    here.qemu.failNextJob('blockdev-mirror', 'Source and target image have different sizes');
    const answer = await here.start(format);
    const text = expect.stringContaining('different sizes');
    expect(answer).toMatchObject({ failure: { reason: 'EXPORT_SIZE_DIFFERS', metadata: { qemuText: text } } });
    await here.expectNothingLeft();
  });

  test('an existing file of zero length is taken over, and is empty again when the start is undone', async () => {
    await using here = await world();
    await writeFile(here.destination, '');
    here.qemu.failNext('blockdev-mirror', TEXT);
    expect(await here.start(format)).toBeInstanceOf(BlockJobError);
    await here.expectNothingLeft(['copy']);
    expect(await readFile(here.destination)).toHaveLength(0);
  });

  test('QEMU dies before the mirror: the start is refused, and its file is gone', async () => {
    await using here = await world();
    here.qemu.dieAt('blockdev-add');
    expect(await here.start(format)).toBeInstanceOf(BlockJobError);
    expect(existsSync(here.destination)).toBe(false);
    expect(await readdir(here.agent.jobsFolder)).toEqual([]);
  });

  test('QEMU dies at the command for the mirror: it may have run, so nothing is claimed and nothing removed', async () => {
    await using here = await world();
    here.qemu.dieAt('blockdev-mirror');
    await here.start(format);
    const [entry] = await readdir(here.agent.jobsFolder);
    const jobId = entry?.replace('.jsonl', '') ?? '';
    expect(await here.agent.until(jobId, 'FAILED')).toBe('FAILED');
    expect(await here.agent.agent.getInfo({ jobId }, PATIENT)).toMatchObject({
      job: { failure: { reason: 'JOB_LOST' }, outcome: { destinationContent: 'UNKNOWN', safeToDelete: [] } },
    });
    expect(existsSync(here.destination)).toBe(true);
  });
});

test('another program makes the file between the check and the first step: that file stays', async () => {
  const held: { make?: () => void } = {};
  await using here = await world((line) => {
    // The device's type is the last question before the start.
    if (line.line === 'command' && line.execute === 'qom-get') held.make?.();
  });
  held.make = () => writeFileSync(here.destination, 'theirs');
  expect(await here.start('RAW')).toMatchObject({ failure: { reason: 'DESTINATION_EXISTS' } });
  expect(here.qemu.changes).toEqual([]);
  await here.expectNothingLeft(['copy']);
  expect(await readFile(here.destination, 'utf8')).toBe('theirs');
});

test('the job of blockdev-create fails', async () => {
  await using here = await world();
  here.qemu.failNextJob('blockdev-create', 'Could not write qcow2 header: No space left on device');
  expect(await here.start('QCOW2')).toMatchObject({ failure: { reason: 'NO_SPACE' } });
  await here.expectNothingLeft();
});

test('another client dismisses the job of blockdev-create: its work is done, and the start continues', async () => {
  const held: { dismiss?: (id: string) => void } = {};
  await using here = await world((line) => {
    if (line.line === 'command' && line.execute === 'job-dismiss') held.dismiss?.(String(line.arguments['id']));
  });
  held.dismiss = (id) => here.qemu.job(id).dismiss();
  expect(await here.start('QCOW2')).toMatchObject({ job: { state: 'RUNNING' } });
});

test('a start that was undone leaves the disk free for the next one', async () => {
  await using here = await world();
  here.qemu.failNext('blockdev-mirror', TEXT);
  expect(await here.start('QCOW2')).toBeInstanceOf(BlockJobError);
  expect(await here.start('QCOW2')).toMatchObject({ job: { state: 'RUNNING' } });
});
