/* oxlint-disable unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { failure } from '../../../../src/core/errors.ts';
import { ending, type FailedTo } from '../../../../src/core/job/ending.ts';
import { concludedJob } from '../../../../src/core/job/job.ts';
import type { Accepted, Concluded, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { outcomeAtEnd } from '../../../../src/core/job/outcome-of.ts';
import {
  ACTIVE_COMMIT,
  BASE,
  CANCEL,
  COMMIT,
  DATA_FLUSHED,
  DESTINATION,
  FINISH,
  FORCE,
  HANDOVER,
  HEADER_FLUSHED,
  jobOf,
  jobWith,
  PULL,
  pivot,
  READY,
  RUNNING,
  SOURCE,
  STORIES,
} from '../stories.ts';

const CANCELED = 'Operation canceled';
const NO_SPACE = 'No space left on device';
const IO_ERROR = 'Input/output error';

type Result = Pick<Concluded, 'how' | 'deviceOn' | 'qemuError' | 'header'>;

function endOf(entries: readonly EntryBody[], result: Result): string {
  const concluded: Concluded = { entry: 'concluded', devicePath: undefined, ...result };
  const { state, failure: why } = ending(concludedJob(jobOf(...entries, concluded)));
  return why === undefined ? state : `${state} ${why.reason}`;
}

const PIVOT = [RUNNING, READY, pivot()];

describe('the ending of a job', () => {
  it.each<[string, readonly EntryBody[], Concluded['how'], Concluded['deviceOn'], string | undefined, string]>([
    ['a pivot', PIVOT, 'CONCLUDED', 'DESTINATION', undefined, 'COMPLETED'],
    ['a pivot that nobody asked us for', [RUNNING, READY], 'CONCLUDED', 'DESTINATION', undefined, 'COMPLETED'],
    ['an abort that came too late', [RUNNING, READY, CANCEL], 'CONCLUDED', 'DESTINATION', undefined, 'COMPLETED'],
    ['a pivot dismissed by somebody', PIVOT, 'VANISHED', 'DESTINATION', undefined, 'COMPLETED'],
    ['finished as asked', [RUNNING, READY, FINISH], 'CONCLUDED', 'SOURCE', undefined, 'COMPLETED'],

    ['cancelled as asked', [RUNNING, CANCEL], 'CONCLUDED', 'SOURCE', CANCELED, 'CANCELLED'],
    ['cancelled as asked after READY', [RUNNING, READY, CANCEL], 'CONCLUDED', 'SOURCE', undefined, 'CANCELLED'],
    ['cancelled as requested', [RUNNING, READY, FORCE], 'CONCLUDED', 'SOURCE', CANCELED, 'CANCELLED'],
    [
      'cancelled as asked, dismissed by somebody',
      [RUNNING, CANCEL],
      'VANISHED',
      'SOURCE',
      undefined,
      'CANCELLED JOB_LOST',
    ],
    ['cancelled by somebody', [RUNNING], 'CONCLUDED', 'SOURCE', CANCELED, 'CANCELLED JOB_LOST'],
    ['ended softly by somebody', [RUNNING, READY], 'CONCLUDED', 'SOURCE', undefined, 'CANCELLED JOB_LOST'],
    ['a pivot ended softly by somebody', PIVOT, 'CONCLUDED', 'SOURCE', undefined, 'CANCELLED JOB_LOST'],
    ['a finish cancelled by somebody', [RUNNING, READY, FINISH], 'CONCLUDED', 'SOURCE', CANCELED, 'CANCELLED JOB_LOST'],

    ['no space', [RUNNING], 'CONCLUDED', 'SOURCE', NO_SPACE, 'FAILED NO_SPACE'],
    ['a full quota', [RUNNING], 'CONCLUDED', 'SOURCE', 'Disk quota exceeded', 'FAILED NO_SPACE'],
    ['a longest file', [RUNNING], 'CONCLUDED', 'SOURCE', 'File too large', 'FAILED FILE_TOO_LARGE'],
    ['an I/O error', [RUNNING], 'CONCLUDED', 'SOURCE', IO_ERROR, 'FAILED STORAGE_FAILED'],
    ['a pivot that failed', PIVOT, 'CONCLUDED', 'SOURCE', IO_ERROR, 'FAILED STORAGE_FAILED'],
    ['a failure before the cancel', [RUNNING, CANCEL], 'CONCLUDED', 'SOURCE', IO_ERROR, 'FAILED STORAGE_FAILED'],
    ['dismissed by somebody', [RUNNING], 'VANISHED', 'SOURCE', undefined, 'FAILED JOB_LOST'],
    ['a finish gone', [RUNNING, READY, FINISH], 'VANISHED', 'SOURCE', undefined, 'FAILED JOB_LOST'],
    ['unplugged', [RUNNING], 'CONCLUDED', 'NOWHERE', undefined, 'FAILED JOB_LOST'],
    ['a pivot that failed, unplugged since', PIVOT, 'CONCLUDED', 'NOWHERE', IO_ERROR, 'FAILED JOB_LOST'],
    ['QEMU ended', [RUNNING], 'QEMU_ENDED', 'NOWHERE', undefined, 'FAILED JOB_LOST'],
    ['QEMU ended while READY', [RUNNING, READY], 'QEMU_ENDED', 'NOWHERE', undefined, 'FAILED JOB_LOST'],

    ['a pivot gone, the guest on the source', PIVOT, 'VANISHED', 'SOURCE', undefined, 'UNRESOLVED JOB_LOST'],
    ['given up', [RUNNING, FORCE], 'GIVEN_UP', 'NOWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['given up in a pivot', [...PIVOT, FORCE], 'GIVEN_UP', 'NOWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['QEMU ended in a pivot', PIVOT, 'QEMU_ENDED', 'NOWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['unplugged after a pivot, or before it', PIVOT, 'CONCLUDED', 'NOWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['a pivot gone, and the disk, too', PIVOT, 'VANISHED', 'NOWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['on another image', PIVOT, 'CONCLUDED', 'ELSEWHERE', undefined, 'UNRESOLVED JOB_LOST'],
    ['gone, and on another image', [RUNNING], 'VANISHED', 'ELSEWHERE', undefined, 'UNRESOLVED JOB_LOST'],
  ])('%s', (_name, entries, how, deviceOn, qemuError, expected) => {
    expect(endOf(entries, { how, deviceOn, qemuError })).toBe(expected);
  });

  // The pivot was requested first, and may have been done before QEMU got the abort.
  it('QEMU ended while a pivot was being cancelled', () => {
    const result = { how: 'QEMU_ENDED', deviceOn: 'NOWHERE', qemuError: undefined } as const;
    expect(endOf([...PIVOT, FORCE], result)).toBe('UNRESOLVED JOB_LOST');
  });

  it('has the text of QEMU if that gives the reason', () => {
    const concluded: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      qemuError: NO_SPACE,
      deviceOn: 'SOURCE',
      devicePath: undefined,
    };
    expect(ending(concludedJob(jobOf(RUNNING, concluded))).failure).toMatchObject({
      metadata: { path: '/copies/disk.qcow2', qemuText: NO_SPACE },
    });
  });
});

describe('a copy to a network destination', () => {
  const target = { kind: 'nbd', nbd: { server: { kind: 'unix', path: '/x' }, exportName: '' } } as never;
  const toNbd = { destination: { node: 'd', path: 'nbd+unix:///?socket=/x', format: 'RAW', target } } as const;
  const concluded: Concluded = {
    entry: 'concluded',
    how: 'CONCLUDED',
    deviceOn: 'SOURCE',
    qemuError: IO_ERROR,
    devicePath: SOURCE,
  };

  it.each<[string, EntryBody[], string]>([
    ['that is cancelled by force has no error: its connection was broken on purpose', [FORCE], 'CANCELLED'],
    ['that fails while a cancel is under way has failed', [CANCEL], 'FAILED'],
    ['that fails when its time is over has failed', [{ ...FORCE, timeIsUp: true } as EntryBody], 'FAILED'],
    ['that fails by itself has failed', [], 'FAILED'],
  ])('%s', (_name, entries, state) => {
    const end = ending(concludedJob(jobWith(toNbd, RUNNING, READY, ...entries, concluded)));
    expect(end.state).toBe(state);
    expect(end.failure === undefined).toBe(state === 'CANCELLED');
  });
});

describe('an I/O error', () => {
  const of = (kind: Partial<Accepted>, failedTo: FailedTo | undefined) => {
    const result = { how: 'CONCLUDED', deviceOn: 'SOURCE', qemuError: IO_ERROR, devicePath: undefined } as const;
    const concluded: Concluded = { entry: 'concluded', ...result };
    const { options: _options, ...more } = kind;
    const options = { topPath: '/vm/middle.qcow2', basePath: BASE };
    return ending(concludedJob(jobWith({ ...more, options }, RUNNING, concluded)), failedTo).failure;
  };

  it.each([
    ['a copy', {}, 'read', 'copying: reading /vm/disk.qcow2, or an image below it', SOURCE],
    ['a copy', {}, 'write', 'copying: writing /copies/disk.qcow2', DESTINATION],
    ['an active commit', ACTIVE_COMMIT, 'read', 'committing: reading /vm/disk.qcow2, or an image below it', SOURCE],
    ['an active commit', ACTIVE_COMMIT, 'write', 'committing: writing /vm/base.qcow2', BASE],
    ['a commit', COMMIT, 'read', 'committing: reading /vm/middle.qcow2, or an image below it', '/vm/middle.qcow2'],
    ['a commit', COMMIT, 'write', 'committing: writing /vm/base.qcow2', BASE],
    // QEMU reports `read` for every error of a stream.
    ['a pull', PULL, 'read', 'pulling', undefined],
    ['a copy that nobody was heard to fail', {}, undefined, 'copying', undefined],
  ] as const)('of %s %j: names the image at a %s: %s', (_name, kind, failedTo, doing, path) => {
    const metadata = { qemuText: IO_ERROR, ...(path === undefined ? {} : { path }) };
    const text = expect.stringContaining(`${doing}: ${IO_ERROR}`) as string;
    expect(of(kind, failedTo)).toMatchObject({ reason: 'STORAGE_FAILED', text, metadata });
    expect(of(kind, failedTo)?.metadata['path']).toBe(path);
  });
});

interface Case extends Result {
  readonly name: string;
  readonly intent: EntryBody['entry'] | undefined;
  readonly end: string;
}

const cases: readonly Case[] = STORIES.filter(([, state]) => state !== 'STARTING').flatMap(([story, , entries]) =>
  (['CONCLUDED', 'VANISHED', 'QEMU_ENDED', 'GIVEN_UP'] as const).flatMap((how) =>
    (['SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const).flatMap((deviceOn) =>
      [undefined, CANCELED, NO_SPACE, IO_ERROR].map((qemuError) => ({
        name: `${story}; ${how}: ${qemuError ?? 'no error'}; on ${deviceOn}`,
        how,
        deviceOn,
        qemuError,
        intent: jobOf(...entries).intent?.entry,
        end: endOf(entries, { how, deviceOn, qemuError }),
      })),
    ),
  ),
);

function except(holds: (one: Case) => boolean): string[] {
  return cases.filter((one) => !holds(one)).map(({ name, end }) => `${name} => ${end}`);
}

describe('in every case', () => {
  // A false "done" is the worst error of this project.
  it('never a false done: COMPLETED is the guest on the destination, or a finish that QEMU ended without error on the source', () => {
    expect(
      except(
        ({ end, how, deviceOn, qemuError, intent }) =>
          (end === 'COMPLETED') ===
          ((deviceOn === 'DESTINATION' && qemuError === undefined) ||
            (intent === 'finish-requested' && how === 'CONCLUDED' && deviceOn === 'SOURCE' && qemuError === undefined)),
      ),
    ).toEqual([]);
  });

  it('a job that is gone is never a success', () => {
    expect(
      except(
        ({ end, how, deviceOn }) => how === 'CONCLUDED' || deviceOn === 'DESTINATION' || !end.startsWith('COMPLETED'),
      ),
    ).toEqual([]);
  });

  it('an error of QEMU is never a success while the guest is on the source', () => {
    expect(
      except(({ end, deviceOn, qemuError }) => deviceOn !== 'SOURCE' || qemuError === undefined || end !== 'COMPLETED'),
    ).toEqual([]);
  });

  it('CANCELLED is the guest seen on the source', () => {
    expect(except(({ end, deviceOn }) => !end.startsWith('CANCELLED') || deviceOn === 'SOURCE')).toEqual([]);
  });

  it('FAILED is never the guest seen on the destination', () => {
    expect(except(({ end, deviceOn }) => !end.startsWith('FAILED') || deviceOn !== 'DESTINATION')).toEqual([]);
  });

  it('a success has no failure, and FAILED and UNRESOLVED say why', () => {
    expect(except(({ end }) => !/^COMPLETED .|^FAILED$|^UNRESOLVED$/.test(end))).toEqual([]);
  });
});

describe('the ending of a job that ends by itself', () => {
  const end = (kind: Partial<Accepted>, entries: readonly EntryBody[], result: Result): string => {
    const concluded: Concluded = { entry: 'concluded', devicePath: undefined, ...result };
    const { options: _options, ...more } = kind;
    const job = concludedJob(jobWith({ ...more, handover: HANDOVER }, ...entries, concluded));
    const { state, failure: why } = ending(job);
    return why === undefined ? state : `${state} ${why.reason}`;
  };
  const at = (how: Concluded['how'], qemuError?: string): Result => ({ how, deviceOn: 'SOURCE', qemuError });

  const NEW = { header: { is: 'NEW' } } as const;
  const OLD = { header: { is: 'OLD', backingFile: '/vm/mid.qcow2' } } as const;
  const UNREAD = { header: { is: 'UNKNOWN', why: 'Input/output error' } } as const;
  const nowhere = { deviceOn: 'NOWHERE' } as const;
  const FLUSHED = [RUNNING, DATA_FLUSHED, HEADER_FLUSHED];
  const BROKEN: EntryBody = { entry: 'flush-failed', failure: failure('NO_SPACE', { path: BASE, why: 'full' }) };

  it.each<[string, readonly EntryBody[], Result, ends: string]>([
    ['done', FLUSHED, { ...at('CONCLUDED'), ...NEW }, 'COMPLETED'],
    ['cancelled too late', [...FLUSHED, CANCEL], { ...at('CONCLUDED'), ...NEW }, 'COMPLETED'],
    // The data is in the right place, whatever the device has done since.
    ['done, unplugged', FLUSHED, { ...at('CONCLUDED'), ...NEW, ...nowhere }, 'COMPLETED'],
    // QEMU's word alone is not enough.
    ['done, and not flushed', [RUNNING], { ...at('CONCLUDED'), ...NEW }, 'UNRESOLVED NOT_ON_DISK'],
    ['done, and the header is the old one', FLUSHED, { ...at('CONCLUDED'), ...OLD }, 'UNRESOLVED NOT_ON_DISK'],
    ['done, and the header cannot be read', FLUSHED, { ...at('CONCLUDED'), ...UNREAD }, 'UNRESOLVED NOT_ON_DISK'],
    ['done, as an older service has it', [RUNNING], at('CONCLUDED'), 'UNRESOLVED NOT_ON_DISK'],
    ['cancelled', [RUNNING, CANCEL], at('CONCLUDED', CANCELED), 'CANCELLED'],
    ['cancelled by somebody', [RUNNING], at('CONCLUDED', CANCELED), 'CANCELLED JOB_LOST'],
    ['cancelled because its flush failed', [RUNNING, BROKEN], at('CONCLUDED', CANCELED), 'FAILED NO_SPACE'],
    [
      'the flush of its header failed',
      [RUNNING, DATA_FLUSHED, BROKEN],
      { ...at('CONCLUDED'), ...UNREAD },
      'UNRESOLVED NOT_ON_DISK',
    ],
    ['no space', [RUNNING], at('CONCLUDED', NO_SPACE), 'FAILED NO_SPACE'],
    ['an error', [RUNNING], at('CONCLUDED', IO_ERROR), 'FAILED STORAGE_FAILED'],
    // The header shows the unseen end.
    ['gone, done', FLUSHED, { ...at('VANISHED'), ...NEW }, 'COMPLETED'],
    ['gone, not done', FLUSHED, { ...at('VANISHED'), ...OLD }, 'FAILED JOB_LOST'],
    ['gone, who knows', FLUSHED, { ...at('VANISHED'), ...UNREAD }, 'UNRESOLVED JOB_LOST'],
    ['gone, and the header was not read', [RUNNING], at('VANISHED'), 'UNRESOLVED JOB_LOST'],
    ['gone with its disk, not done', FLUSHED, { ...at('VANISHED'), ...OLD, ...nowhere }, 'FAILED JOB_LOST'],
    ['cancelled, and gone, not done', [...FLUSHED, CANCEL], { ...at('VANISHED'), ...OLD }, 'CANCELLED'],
    ['cancelled, and gone, done', [...FLUSHED, CANCEL], { ...at('VANISHED'), ...NEW }, 'COMPLETED'],
    ['QEMU ended, not done', [RUNNING], { ...at('QEMU_ENDED'), ...OLD, ...nowhere }, 'FAILED JOB_LOST'],
    ['QEMU ended, done', [RUNNING, DATA_FLUSHED], { ...at('QEMU_ENDED'), ...NEW, ...nowhere }, 'COMPLETED'],
    // Another client let it finish, or an older service: the file behind the header may not exist.
    ['QEMU ended, done without a flush', [RUNNING], { ...at('QEMU_ENDED'), ...NEW, ...nowhere }, 'UNRESOLVED JOB_LOST'],
    ['QEMU ended, who knows', [RUNNING], { ...at('QEMU_ENDED'), ...UNREAD, ...nowhere }, 'UNRESOLVED JOB_LOST'],
  ])('%s', (_name, entries, result, ends) => {
    expect([end(PULL, entries, result), end(COMMIT, entries, result)]).toEqual([ends, ends]);
  });

  it('data that could not be synced after a copy is not proved', () => {
    const unsynced: EntryBody = {
      entry: 'step-refused',
      step: 'sync-destination',
      failure: failure('REFUSED_BY_QEMU', { domain: 'vm1', doing: 'x', qemuText: 'y' }),
    };
    const concluded: Concluded = { ...at('CONCLUDED'), entry: 'concluded', deviceOn: 'DESTINATION', devicePath: BASE };
    const job = concludedJob(jobWith({}, ...PIVOT, concluded, unsynced));
    expect(ending(job)).toMatchObject({ state: 'UNRESOLVED', failure: { reason: 'NOT_ON_DISK' } });
    expect(outcomeAtEnd(job)).toMatchObject({ destinationContent: 'UNKNOWN', safeToDelete: [] });
  });

  it('an active commit ends as a copy does', () => {
    const pivoted = { ...at('CONCLUDED'), deviceOn: 'DESTINATION' } as const;
    expect(end(ACTIVE_COMMIT, PIVOT, pivoted)).toBe('COMPLETED');
    expect(end(ACTIVE_COMMIT, [RUNNING, READY, CANCEL], at('CONCLUDED'))).toBe('CANCELLED');
    expect(end(ACTIVE_COMMIT, [RUNNING], at('VANISHED'))).toBe('FAILED JOB_LOST');
  });
});

describe('the ending of a copy whose connection was broken for the guest’s sake', () => {
  const broken: EntryBody = { entry: 'cancel-requested', force: true, connectionBroken: true };

  it.each([CANCELED, 'Input/output error'])('is FAILED, and says why, whatever QEMU says: %s', (qemuError) => {
    const concluded: Concluded = {
      entry: 'concluded',
      devicePath: undefined,
      how: 'CONCLUDED',
      deviceOn: 'SOURCE',
      qemuError,
    };
    expect(ending(concludedJob(jobWith({}, RUNNING, READY, broken, concluded)))).toMatchObject({
      state: 'FAILED',
      failure: { reason: 'DESTINATION_UNREACHABLE' },
    });
  });
});

describe('the ending of a copy whose file has moved', () => {
  const MOVED: EntryBody = { entry: 'cancel-requested', force: true, destinationMoved: true };

  it('is FAILED, and says why', () => {
    const concluded: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      deviceOn: 'SOURCE',
      qemuError: CANCELED,
      devicePath: SOURCE,
    };
    expect(ending(concludedJob(jobWith({}, ...PIVOT, MOVED, concluded)))).toMatchObject({
      state: 'FAILED',
      failure: { reason: 'DESTINATION_MOVED' },
    });
  });
});

describe('the ending of a job whose time is over', () => {
  const timeIsUp: EntryBody = { entry: 'cancel-requested', force: false, timeIsUp: true };
  const end = (entries: readonly EntryBody[], result: Result) => {
    const concluded: Concluded = { entry: 'concluded', devicePath: undefined, ...result };
    return ending(concludedJob(jobWith({ options: { timeLimitMs: 1500 } }, ...entries, concluded)));
  };

  it('is CANCELLED, and says so', () => {
    expect(end([RUNNING, timeIsUp], { how: 'CONCLUDED', deviceOn: 'SOURCE', qemuError: CANCELED })).toMatchObject({
      state: 'CANCELLED',
      failure: { reason: 'TIME_LIMIT_REACHED', metadata: { timeLimit: '1.5' } },
    });
  });

  it('is COMPLETED nevertheless if it came too late', () => {
    const result = { how: 'CONCLUDED', deviceOn: 'DESTINATION', qemuError: undefined } as const;
    expect(end([...PIVOT, { ...timeIsUp, force: true }], result)).toEqual({ state: 'COMPLETED', failure: undefined });
  });
});
