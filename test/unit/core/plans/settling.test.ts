/** The actions after a job has concluded: no node in use is closed, and no file is removed without proof. */
import { describe, expect, it } from 'vitest';
import { concludedJob, IllegalTransition } from '../../../../src/core/job/job.ts';
import type { Concluded, DeviceOn, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { nextTogether, planSettling } from '../../../../src/core/plans/settling.ts';
import {
  COMMIT,
  CREATED,
  DATA_FLUSHED,
  DESTINATION,
  HANDOVER,
  HEADER_FLUSHED,
  JOB,
  jobOf,
  jobWith,
  OPTIONS,
  READY,
  RUNNING,
} from '../stories.ts';

const blockdevDel = (node: string) => ({
  do: 'qmp',
  command: { execute: 'blockdev-del', arguments: { 'node-name': node } },
});
const concluded = (how: Concluded['how'], deviceOn: DeviceOn, qemuError: string | undefined): Concluded => ({
  entry: 'concluded',
  how,
  deviceOn,
  qemuError,
  devicePath: undefined,
});
const settling = (before: readonly EntryBody[], end: Concluded) =>
  planSettling(concludedJob(jobOf(CREATED, ...before, end))).map(({ name }) => name);

describe('the plan that settles a job', () => {
  const [SYNC, DISMISS] = ['sync-destination', 'dismiss-job'] as const;
  const OF_SOURCE = ['close-top', 'close-top-file'];
  const OF_DESTINATION = [`close-${JOB}`, `close-${JOB}-file`];
  const ERROR = 'Input/output error';

  it.each<[Concluded['how'], DeviceOn, string | undefined, 'before READY' | 'after READY', readonly string[]]>([
    // A pivot: the source is what nobody uses any more.
    ['CONCLUDED', 'DESTINATION', undefined, 'after READY', [SYNC, DISMISS, ...OF_SOURCE]],
    ['VANISHED', 'DESTINATION', undefined, 'after READY', [SYNC, DISMISS, ...OF_SOURCE]],
    ['CONCLUDED', 'DESTINATION', ERROR, 'before READY', [DISMISS, ...OF_SOURCE]],
    // An end without a pivot: the destination is, and its file is a copy, or was one.
    ['CONCLUDED', 'SOURCE', undefined, 'after READY', [SYNC, DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'SOURCE', ERROR, 'after READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'SOURCE', undefined, 'before READY', [SYNC, DISMISS, ...OF_DESTINATION]],
    // The one case in which the file is rubbish for certain.
    ['CONCLUDED', 'SOURCE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION, 'remove-destination']],
    // QEMU's result was not seen, or the device was not: nothing is removed.
    ['VANISHED', 'SOURCE', undefined, 'before READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'ELSEWHERE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'NOWHERE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION]],
    // Nothing of QEMU is left to be settled.
    ['QEMU_ENDED', 'NOWHERE', undefined, 'before READY', []],
    ['QEMU_ENDED', 'NOWHERE', undefined, 'after READY', []],
    ['GIVEN_UP', 'NOWHERE', undefined, 'before READY', []],
  ])('%s, device on %s, error %s, %s: %j', (how, deviceOn, error, when, expected) => {
    const before = when === 'after READY' ? [RUNNING, READY] : [RUNNING];
    expect(settling(before, concluded(how, deviceOn, error))).toEqual(expected);
  });

  it('removes a file only if QEMU itself proved the copy unfinished and the device was seen on the source', () => {
    for (const how of ['CONCLUDED', 'VANISHED', 'QEMU_ENDED', 'GIVEN_UP'] as const) {
      for (const deviceOn of ['SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const) {
        for (const error of [undefined, ERROR]) {
          for (const before of [[RUNNING], [RUNNING, READY]]) {
            const steps = settling(before, concluded(how, deviceOn, error));
            const proved = how === 'CONCLUDED' && deviceOn === 'SOURCE' && error !== undefined;
            const expected = proved && !before.includes(READY);
            expect({ how, deviceOn, error, removes: steps.includes('remove-destination') }).toEqual({
              how,
              deviceOn,
              error,
              removes: expected,
            });
          }
        }
      }
    }
  });

  it('dismisses the job before it closes nodes, and names the step that made the removed file', () => {
    const plan = planSettling(
      concludedJob(jobOf(CREATED, RUNNING, concluded('CONCLUDED', 'SOURCE', 'Operation canceled'))),
    );
    expect(plan).toEqual([
      { name: DISMISS, run: { do: 'end-qmp-job', qemuJob: JOB } },
      { name: `close-${JOB}`, run: blockdevDel(JOB) },
      { name: `close-${JOB}-file`, run: blockdevDel(`${JOB}-file`) },
      {
        name: 'remove-destination',
        run: { do: 'remove-file', path: DESTINATION, madeBy: 'create-destination' },
      },
    ]);
  });

  it('closes the nodes of a commit that QEMU reports as done, or whose header shows it though QEMU has forgotten it', () => {
    const before = [RUNNING, DATA_FLUSHED, HEADER_FLUSHED];
    const closes = (how: Concluded['how'], header: Partial<Concluded>, flushed = before) => {
      const end = { ...concluded(how, 'SOURCE', undefined), ...header };
      const job = concludedJob(
        jobWith({ ...COMMIT, unused: { afterSuccess: ['mid'], otherwise: [] } }, ...flushed, end),
      );
      return planSettling(job).some(({ name }) => name === 'close-mid');
    };
    const NEW = { header: { is: 'NEW' } } as const;
    const OLD = { header: { is: 'OLD', backingFile: '/vm/mid' } } as const;
    for (const header of [{}, OLD, NEW]) expect(closes('CONCLUDED', header)).toBe(true);
    for (const header of [{}, OLD]) expect(closes('VANISHED', header)).toBe(false);
    expect(closes('VANISHED', NEW)).toBe(true);
    // An unflushed header proves nothing.
    expect(closes('VANISHED', NEW, [RUNNING])).toBe(false);
    for (const how of ['QEMU_ENDED', 'GIVEN_UP'] as const) expect(closes(how, NEW)).toBe(false);
  });

  it('is undefined while the job has not concluded', () => {
    expect(() => planSettling(concludedJob(jobOf(RUNNING, READY)))).toThrow(IllegalTransition);
  });
});

describe('a job that deletes the committed images', () => {
  const image = { path: '/vm/snap1.qcow2', device: '7', inode: '1', birthTimeNs: '1' };
  const deletes = (
    kind: 'COMMIT' | 'ACTIVE_COMMIT',
    end: Concluded,
    { deleteCommitted = true, more = [] }: { deleteCommitted?: boolean; more?: readonly EntryBody[] } = {},
  ) => {
    const destination =
      kind === 'COMMIT' ? undefined : ({ node: 'base', path: '/vm/base', format: 'RAW', target: undefined } as const);
    const options = { ...OPTIONS, deleteCommitted };
    const before = kind === 'COMMIT' ? [RUNNING, DATA_FLUSHED, HEADER_FLUSHED] : [RUNNING, READY];
    const accepted = { kind, destination, committed: [image], options, plan: [], handover: HANDOVER } as const;
    const job = concludedJob(jobWith(accepted, ...before, end, ...more));
    return planSettling(job).filter(({ run }) => run.do === 'delete-image');
  };
  const NEW = { header: { is: 'NEW' } } as const;

  it('does so only after a success that QEMU itself has reported', () => {
    for (const how of ['CONCLUDED', 'VANISHED', 'QEMU_ENDED', 'GIVEN_UP'] as const) {
      for (const deviceOn of ['SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const) {
        for (const error of [undefined, 'Operation canceled']) {
          const end = concluded(how, deviceOn, error);
          const proved = how === 'CONCLUDED' && error === undefined;
          expect([how, deviceOn, error, deletes('ACTIVE_COMMIT', end).length]).toEqual([
            how,
            deviceOn,
            error,
            proved && deviceOn === 'DESTINATION' ? 1 : 0,
          ]);
          expect([how, error, deletes('COMMIT', { ...end, ...NEW }).length]).toEqual([how, error, proved ? 1 : 0]);
          expect(deletes('COMMIT', { ...end, ...NEW }, { deleteCommitted: false })).toEqual([]);
        }
      }
    }
  });

  it('does so only after the header that lets go of it was read back, and reads it again right before', () => {
    const done = concluded('CONCLUDED', 'SOURCE', undefined);
    const OLD = { is: 'OLD', backingFile: image.path } as const;
    for (const header of [{}, { header: OLD }, { header: { is: 'UNKNOWN', why: 'x' } }] as const)
      expect(deletes('COMMIT', { ...done, ...header })).toEqual([]);
    const letGo = { job: JOB, handover: HANDOVER };
    expect(deletes('COMMIT', { ...done, ...NEW })).toMatchObject([{ run: { image, letGo } }]);
  });

  it('does not do so after an active commit whose base could not be synced', () => {
    const failure = { reason: 'BUG', text: 'x', metadata: {} } as const;
    const more = [{ entry: 'step-refused', step: 'sync-destination', failure }] as const;
    expect(deletes('ACTIVE_COMMIT', concluded('CONCLUDED', 'DESTINATION', undefined), { more })).toEqual([]);
  });
});

/** The steps of a copy that was cancelled before it was READY. */
function next(...since: readonly EntryBody[]): readonly string[] {
  const end = concluded('CONCLUDED', 'SOURCE', 'Operation canceled');
  const job = concludedJob(jobOf(CREATED, RUNNING, end, ...since));
  return nextTogether(job, planSettling(job)).map(({ name }) => name);
}

describe('the steps that begin together', () => {
  const failure = { reason: 'BUG', text: 'x', metadata: {} } as const;
  const DISMISSED: EntryBody = { entry: 'step-done', step: 'dismiss-job' };
  const CLOSED: EntryBody = { entry: 'step-done', step: `close-${JOB}` };
  const FILE = `close-${JOB}-file`;

  it('are all in QEMU, and none that removes a file', () => {
    expect(next()).toEqual(['dismiss-job', `close-${JOB}`, FILE]);
  });

  it('are those whose result is not known: they are done again', () => {
    const lost = [
      { entry: 'step-started', step: FILE },
      { entry: 'step-unknown', step: FILE, failure },
    ] as const;
    for (const last of [[], lost.slice(0, 1), lost]) expect(next(DISMISSED, CLOSED, ...last)).toEqual([FILE]);
  });

  it('are one at a time if they remove files: the results before decide about each', () => {
    const end = { ...concluded('CONCLUDED', 'SOURCE', undefined), header: { is: 'NEW' } } as const;
    const committed = ['/vm/1', '/vm/2'].map((path) => ({ path, device: '7', inode: path, birthTimeNs: '1' }));
    const accepted = { ...COMMIT, committed, options: { deleteCommitted: true }, handover: HANDOVER };
    const deleting = (...since: readonly EntryBody[]) => {
      const job = concludedJob(jobWith(accepted, RUNNING, DATA_FLUSHED, HEADER_FLUSHED, end, ...since));
      return nextTogether(job, planSettling(job)).map(({ name }) => name);
    };
    const all = deleting();
    const closed = all.map((step) => ({ entry: 'step-done', step }) as const);
    expect(all).not.toContain('delete-/vm/1');
    expect(deleting(...closed)).toEqual(['delete-/vm/1']);
    expect(deleting(...closed, { entry: 'step-done', step: 'delete-/vm/1' })).toEqual(['delete-/vm/2']);
    expect(deleting(...closed, { entry: 'step-refused', step: 'delete-/vm/1', failure })).toEqual([]);
  });
});
