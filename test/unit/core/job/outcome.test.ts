/* oxlint-disable unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { concludedJob, type Job } from '../../../../src/core/job/job.ts';
import type { Accepted, Concluded, DeviceOn, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { Outcome } from '../../../../src/core/job/outcome.ts';
import { outcomeAtEnd, outcomeOf } from '../../../../src/core/job/outcome-of.ts';
import {
  ACTIVE_COMMIT,
  BASE,
  CANCEL,
  COMMIT,
  CREATED,
  DATA_FLUSHED,
  DESTINATION,
  FINISH,
  FOLLOWED,
  FORCE,
  HANDOVER,
  HEADER_FLUSHED,
  jobOf,
  jobWith,
  MADE,
  PULL,
  pivot,
  READY,
  RUNNING,
  SEEN_AT,
  SOURCE,
  STORIES,
  timeOf,
} from '../stories.ts';

const ELSEWHERE = '/vm/snapshot.qcow2';
const HOWS = ['CONCLUDED', 'VANISHED', 'QEMU_ENDED', 'GIVEN_UP'] as const;
const ERRORS = [undefined, 'Operation canceled', 'No space left on device'] as const;
/** The places of a device, with the paths that QEMU can name for it then. */
const PLACES: readonly (readonly [DeviceOn, string | undefined])[] = [
  ['SOURCE', SOURCE],
  ['DESTINATION', DESTINATION],
  ['ELSEWHERE', ELSEWHERE],
  // Another client has closed the node and opened its file under another name.
  ['ELSEWHERE', SOURCE],
  ['ELSEWHERE', DESTINATION],
  ['NOWHERE', undefined],
];

interface Case {
  readonly name: string;
  readonly job: Job;
  readonly concluded: Concluded;
  readonly outcome: Outcome;
}

function conclude(entries: readonly EntryBody[], result: Omit<Concluded, 'entry'>): Pick<Case, 'job' | 'outcome'> {
  const concluded: Concluded = { entry: 'concluded', ...result };
  const job = jobOf(...entries, concluded);
  return { job, outcome: outcomeAtEnd(concludedJob(job)) };
}

const cases: readonly Case[] = STORIES.flatMap(([story, state, entries]) => {
  if (state === 'STARTING') return [];
  return [[CREATED, ...entries], entries].flatMap((before) =>
    HOWS.flatMap((how) =>
      ERRORS.flatMap((qemuError) =>
        PLACES.map(([deviceOn, devicePath]) => {
          const concluded: Concluded = { entry: 'concluded', how, qemuError, deviceOn, devicePath };
          const made = before === entries ? 'file not ours' : 'file ours';
          return {
            name: `${story}; ${made}; ${how}: ${qemuError ?? 'no error'}; on ${deviceOn} ${devicePath ?? ''}`,
            concluded,
            ...conclude(before, concluded),
          };
        }),
      ),
    ),
  );
});

/** The names of the cases that break the rule: a test expects an empty list. */
function except(holds: (one: Case) => boolean, among: readonly Case[] = cases): string[] {
  return among.filter((one) => !holds(one)).map(({ name }) => name);
}

describe('the outcome of a job that runs', () => {
  it.each<[string, readonly EntryBody[], Partial<Outcome>]>([
    ['is PARTIAL before READY', [RUNNING], { guestWritesTo: SOURCE, destinationContent: 'PARTIAL' }],
    ['is MIRRORED when READY', [RUNNING, READY], { guestWritesTo: SOURCE, destinationContent: 'MIRRORED' }],
    [
      'does not say where the guest writes in the instant of a pivot',
      [RUNNING, READY, pivot()],
      { guestWritesTo: undefined, destinationContent: 'MIRRORED' },
    ],
  ])('%s', (_name, entries, expected) => {
    expect(outcomeOf(jobOf(...entries))).toMatchObject({ ...expected, asOf: undefined, safeToDelete: [] });
  });

  // The pivot was requested, and QEMU may have done it before it got the abort.
  it('does not say where the guest writes while a pivot is being cancelled', () => {
    expect(outcomeOf(jobOf(RUNNING, READY, pivot(), FORCE)).guestWritesTo).toBeUndefined();
  });

  it('names the revision that it is based on', () => {
    expect(outcomeOf(jobOf(RUNNING, READY, { entry: 'guest-released' })).evidence).toEqual([
      { source: 'JOURNAL', text: 'QEMU reported READY', revision: 3 },
    ]);
  });
});

describe('the outcome of a job that has ended', () => {
  const onSource = { deviceOn: 'SOURCE', devicePath: SOURCE } as const;

  it('after a pivot is the live disk; the old image may be deleted, with a warning', () => {
    const { outcome } = conclude([CREATED, RUNNING, READY, pivot()], {
      how: 'CONCLUDED',
      qemuError: undefined,
      deviceOn: 'DESTINATION',
      devicePath: DESTINATION,
    });
    expect(outcome).toMatchObject({
      guestWritesTo: DESTINATION,
      destinationContent: 'COMPLETE',
      asOf: undefined,
      safeToDelete: [{ path: SOURCE, warning: expect.stringContaining('name the new image') }],
    });
  });

  it.each<[string, readonly EntryBody[], string, number | undefined]>([
    ['seen to follow after the request to end it', [READY, FINISH, FOLLOWED], timeOf(3.5), 6],
    ['READY after the request to end it', [CANCEL, READY], SEEN_AT, 5],
    ['READY, and ended before it was asked again', [READY, CANCEL], SEEN_AT, 4],
    ['READY, and ended by another client', [READY], SEEN_AT, 4],
    ['never seen READY: the state when it began', [CANCEL], timeOf(1), undefined],
  ])(
    'after an unforced end is a copy as of the last moment it was seen to follow: %s',
    (_name, entries, asOf, seen) => {
      const { outcome } = conclude([CREATED, RUNNING, ...entries], {
        how: 'CONCLUDED',
        qemuError: undefined,
        ...onSource,
      });
      expect(outcome).toMatchObject({
        guestWritesTo: SOURCE,
        destinationContent: 'COMPLETE',
        asOf,
        safeToDelete: [],
      });
      const following = outcome.evidence.find(({ text }) => text.includes('followed the guest'));
      expect(following?.revision).toBe(seen);
    },
  );

  it('of a job found in QEMU without its journal is not known if nobody saw it READY', () => {
    const concluded: Concluded = { entry: 'concluded', how: 'CONCLUDED', qemuError: undefined, ...onSource };
    const job = jobWith({ recovered: true }, RUNNING, concluded);
    expect(outcomeAtEnd(concludedJob(job)).destinationContent).toBe('UNKNOWN');
  });

  it('after a forced end is stale, and our own file may be deleted', () => {
    const { outcome } = conclude([CREATED, RUNNING, READY, FORCE], {
      how: 'CONCLUDED',
      qemuError: 'Operation canceled',
      ...onSource,
    });
    expect(outcome).toMatchObject({
      guestWritesTo: SOURCE,
      destinationContent: 'STALE',
      safeToDelete: [{ path: DESTINATION, warning: expect.any(String) }],
    });
  });

  it('names no file that is gone already', () => {
    const concluded: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      qemuError: 'No space left on device',
      ...onSource,
    };
    const removed: EntryBody = { entry: 'step-done', step: 'remove-destination' };
    const job = jobOf(CREATED, RUNNING, concluded, removed);
    expect(outcomeAtEnd(concludedJob(job))).toMatchObject({
      destinationContent: 'PARTIAL',
      destinationRemoved: true,
      safeToDelete: [],
    });
  });

  it('has the evidence it is based on, with its revision', () => {
    const { outcome } = conclude([RUNNING], { how: 'VANISHED', qemuError: undefined, ...onSource });
    expect(outcome.evidence).toEqual([
      { source: 'QEMU_JOB', text: 'the job was gone from QEMU before its result was read', revision: 3 },
      { source: 'QEMU_GRAPH', text: `device vd0 was on ${SOURCE}`, revision: 3 },
    ]);
  });
});

const named = (one: Case) => one.outcome.safeToDelete.map(({ path }) => path);
const liveIsSafe = ({ outcome }: Case) => outcome.safeToDelete.some(({ path }) => path === outcome.guestWritesTo);
const reopened = ({ concluded }: Case) => concluded.deviceOn === 'ELSEWHERE' && concluded.devicePath !== ELSEWHERE;
const datedIfNotLive = ({ outcome, concluded }: Case) =>
  outcome.destinationContent !== 'COMPLETE' || concluded.deviceOn === 'DESTINATION' || outcome.asOf !== undefined;

const isCompleteAndNotLive = ({ outcome, concluded }: Case) =>
  outcome.destinationContent === 'COMPLETE' && concluded.deviceOn !== 'DESTINATION';

describe('in every case', () => {
  it('the guest writes to the place where its device was seen, and to no other', () => {
    expect(except(({ outcome, concluded }) => outcome.guestWritesTo === concluded.devicePath)).toEqual([]);
  });

  it('never a deleted live disk: the image that the guest writes to is not safe to delete', () => {
    expect(
      except(
        (one) => !liveIsSafe(one),
        cases.filter((one) => !reopened(one)),
      ),
    ).toEqual([]);
  });

  it('a live disk is never safe to delete, though its file was opened again under another node name', () => {
    expect(except((one) => !liveIsSafe(one))).toEqual([]);
  });

  it('a file that this job did not make is never safe to delete, except the source after a pivot', () => {
    expect(
      except(
        (one) =>
          one.job.madeFile !== undefined ||
          named(one).every((path) => path === SOURCE && one.concluded.deviceOn === 'DESTINATION'),
      ),
    ).toEqual([]);
    const took: EntryBody = { entry: 'step-done', step: 'create-destination', made: { ...MADE, created: false } };
    const { outcome } = conclude([took, RUNNING], {
      how: 'CONCLUDED',
      qemuError: 'Operation canceled',
      deviceOn: 'SOURCE',
      devicePath: SOURCE,
    });
    expect(outcome.safeToDelete).toEqual([]);
  });

  it('nothing is safe to delete of a job whose end nobody saw, unless the device has moved', () => {
    expect(
      except(
        (one) =>
          one.concluded.how === 'CONCLUDED' || one.concluded.deviceOn === 'DESTINATION' || named(one).length === 0,
      ),
    ).toEqual([]);
  });

  it('the destination is COMPLETE only if QEMU said so or the guest is on it', () => {
    expect(
      except(
        ({ outcome, concluded }) =>
          outcome.destinationContent !== 'COMPLETE' ||
          concluded.deviceOn === 'DESTINATION' ||
          (concluded.how === 'CONCLUDED' && concluded.qemuError === undefined),
      ),
    ).toEqual([]);
  });

  it('nothing is MIRRORED any more, and a job that was never READY is not STALE', () => {
    expect(
      except(
        ({ outcome, job }) =>
          outcome.destinationContent !== 'MIRRORED' &&
          (outcome.destinationContent !== 'STALE' || job.ready !== undefined),
      ),
    ).toEqual([]);
  });

  it('a COMPLETE copy that is not the live disk has its point in time', () => {
    expect(except(datedIfNotLive)).toEqual([]);
  });

  it('a moment is only that of a COMPLETE copy that is not the live disk', () => {
    expect(except((one) => one.outcome.asOf === undefined || isCompleteAndNotLive(one))).toEqual([]);
    expect(cases.filter(({ outcome }) => outcome.asOf !== undefined).length).toBeGreaterThan(0);
  });

  it('there is evidence', () => {
    expect(except(({ outcome }) => outcome.evidence.length > 0)).toEqual([]);
  });

  it('a pivot that QEMU reports as failed frees no file, though the guest is on the destination', () => {
    const failed = cases.filter(
      ({ concluded }) => concluded.deviceOn === 'DESTINATION' && concluded.qemuError !== undefined,
    );
    expect(failed.length).toBeGreaterThan(0);
    expect(except((one) => named(one).length === 0, failed)).toEqual([]);
  });

  it('each file that is safe to delete comes with a warning', () => {
    expect(except(({ outcome }) => outcome.safeToDelete.every(({ warning }) => warning !== ''))).toEqual([]);
  });
});

describe('the outcome of other jobs than copies', () => {
  const known = (path: string) => ({ path, device: '7', inode: path, birthTimeNs: '1' });
  const SNAP = '/vm/snap1.qcow2';
  const outcome = (
    kind: Partial<Accepted>,
    entries: readonly EntryBody[],
    result: Partial<Concluded> = {},
  ): Pick<Outcome, 'destinationContent' | 'safeToDelete' | 'asOf' | 'guestWritesTo' | 'evidence'> & {
    paths: readonly string[];
  } => {
    const concluded: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      deviceOn: 'SOURCE',
      qemuError: undefined,
      devicePath: SOURCE,
      ...(kind.destination === undefined && 'destination' in kind ? { header: { is: 'NEW' } } : {}),
      ...result,
    };
    const committed = kind.kind === 'PULL' ? [] : [known(SOURCE), known(SNAP)].slice(kind.kind === 'COMMIT' ? 1 : 0);
    const { options: _options, ...more } = kind;
    const job = jobWith({ ...more, committed, handover: HANDOVER }, ...entries, concluded);
    const found = outcomeAtEnd(concludedJob(job));
    return { ...found, paths: found.safeToDelete.map(({ path }) => path) };
  };
  const deleted = (path: string): EntryBody => ({ entry: 'step-done', step: `delete-${path}` });

  it('a pull makes no copy, and no file is safe to delete: others may share the pulled images', () => {
    expect(outcome(PULL, [RUNNING])).toMatchObject({
      destinationContent: undefined,
      asOf: undefined,
      guestWritesTo: SOURCE,
      paths: [],
    });
  });

  it('the evidence of a pull without a result in QEMU is the chain; of an error, QEMU’s words', () => {
    const concluded: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      deviceOn: 'SOURCE',
      qemuError: undefined,
      devicePath: SOURCE,
    };
    const sources = (result: Concluded) => {
      const job = jobWith(PULL, RUNNING, result);
      return outcomeAtEnd(concludedJob(job)).evidence.map(({ source, text }) => `${source}: ${text}`);
    };
    const device = `QEMU_GRAPH: device vd0 was on ${SOURCE}`;
    expect(sources(concluded)).toEqual(['QEMU_GRAPH: the pulled images are no longer below the active image', device]);
    expect(sources({ ...concluded, qemuError: 'Input/output error' })).toEqual([
      'QEMU_JOB: QEMU concluded the job: Input/output error',
      device,
    ]);
  });

  const FLUSHED = [RUNNING, DATA_FLUSHED, HEADER_FLUSHED];

  it('after a commit its images are safe to delete, with a warning; not those that are deleted, nor before a proof', () => {
    const after = outcome(COMMIT, FLUSHED);
    expect(after).toMatchObject({ destinationContent: undefined, paths: [SNAP] });
    expect(after.safeToDelete[0]?.warning).not.toBe('');
    expect(outcome(COMMIT, [...FLUSHED, deleted(SNAP)]).paths).toEqual([]);
    expect(outcome(COMMIT, FLUSHED, { qemuError: 'Input/output error' }).paths).toEqual([]);
    expect(outcome(COMMIT, [RUNNING]).paths).toEqual([]);
    for (const header of [
      { is: 'OLD', backingFile: SNAP },
      { is: 'UNKNOWN', why: 'x' },
    ] as const)
      for (const how of HOWS) expect(outcome(COMMIT, FLUSHED, { how, header }).paths).toEqual([]);
  });

  it('the evidence of both is the header, as it was read back from disk', () => {
    const told = (header: Concluded['header']) => {
      const { evidence } = outcome(COMMIT, FLUSHED, header === undefined ? {} : { header });
      return evidence.filter(({ source }) => source === 'FILE_SYSTEM').map(({ text }) => text);
    };
    expect(told({ is: 'NEW' })).toEqual([`the header of ${SOURCE}, read back from disk, names ${BASE}`]);
    expect(told({ is: 'OLD', backingFile: '' })).toEqual([
      `the header of ${SOURCE}, read back from disk, names no backing image`,
    ]);
    expect(told({ is: 'UNKNOWN', why: 'no' })).toEqual([`the header of ${SOURCE} is not proved to be on disk: no`]);
  });

  it('after the pivot of an active commit the base is the disk, and all above it is left', () => {
    const on = { deviceOn: 'DESTINATION', devicePath: BASE } as const;
    const after = outcome(ACTIVE_COMMIT, [RUNNING, READY, pivot()], on);
    expect(after).toMatchObject({ destinationContent: 'COMPLETE', guestWritesTo: BASE, paths: [SOURCE, SNAP] });
    expect(outcome(ACTIVE_COMMIT, [RUNNING, READY, pivot(), deleted(SOURCE)], on).paths).toEqual([SNAP]);
    expect(outcome(ACTIVE_COMMIT, [RUNNING, READY, pivot()], { ...on, qemuError: 'x' }).paths).toEqual([]);
  });

  it('without a pivot nothing of an active commit is safe to delete', () => {
    const after = outcome(ACTIVE_COMMIT, [RUNNING, READY]);
    expect(after).toMatchObject({ destinationContent: 'COMPLETE', guestWritesTo: SOURCE, paths: [] });
    expect(outcome(ACTIVE_COMMIT, [RUNNING], { qemuError: 'Operation canceled' })).toMatchObject({
      destinationContent: 'PARTIAL',
      paths: [],
    });
  });
});

describe('the losses that the caller accepted', () => {
  const losses = [{ accept: 'LOSES_ENCRYPTION', path: SOURCE, text: 'is encrypted: so' }] as const;
  const concluded = { entry: 'concluded', how: 'CONCLUDED', qemuError: undefined } as const;
  const onCopy = { ...concluded, deviceOn: 'DESTINATION', devicePath: DESTINATION } as const;
  const ended = (accepted: Parameters<typeof jobWith>[0]) => {
    const job = jobWith(accepted, RUNNING, READY, pivot('AUTO'), onCopy);
    return outcomeAtEnd(concludedJob(job));
  };

  it('are evidence, and a warning at the image that had them', () => {
    const { evidence, safeToDelete } = ended({ losses });
    expect(evidence.map(({ text }) => text)).toContain(`LOSES_ENCRYPTION was accepted: ${SOURCE} is encrypted: so`);
    expect(safeToDelete.map(({ warning }) => warning.endsWith('; it is encrypted: so'))).toEqual([true]);
    expect(ended({}).safeToDelete.map(({ warning }) => warning.includes('encrypted'))).toEqual([false]);
    const other = ended({ losses: [{ ...losses[0], path: '/other' }] });
    expect(other.safeToDelete.map(({ warning }) => warning.includes('encrypted'))).toEqual([false]);
  });
});
