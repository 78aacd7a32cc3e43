import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Disk } from '../../../../src/core/chain.ts';
import type { Concluded, DeviceOn, EntryBody } from '../../../../src/core/journal-entry.ts';
import {
  type CopyDestination,
  type CopySource,
  namesOf,
  planCopy,
  planSettling,
} from '../../../../src/core/plans/copy.ts';
import { CREATED, DESTINATION, JOB, jobOf, OPTIONS, READY, RUNNING } from '../stories.ts';

const DISK: Disk = {
  id: 'vd0',
  qdev: '/machine/peripheral/vd0/virtio-backend',
  backend: '',
  chain: [],
  filters: [],
  blockJobs: [],
  cacheDirect: true,
  detectZeroes: 'unmap',
};
const FROM: CopySource = {
  disk: DISK,
  node: 'top',
  virtualSizeBytes: 10_737_418_240,
  clusterSizeBytes: 131_072,
  extendedL2: true,
};
const OWNER = { uid: 107, gid: 108 };
const TO: CopyDestination = { path: DESTINATION, takeOver: false, owner: OWNER };
const CACHE = { direct: true, 'no-flush': false };

const createFile = (sizeBytes: number) => ({
  name: 'create-destination',
  run: { do: 'create-file', path: DESTINATION, takeOver: false, sizeBytes, owner: OWNER },
  undo: { do: 'remove-file', path: DESTINATION, madeBy: 'create-destination' },
});
const blockdevDel = (node: string) => ({
  do: 'qmp',
  command: { execute: 'blockdev-del', arguments: { 'node-name': node } },
});
const addFile = {
  name: 'add-destination-file',
  run: {
    do: 'qmp',
    command: {
      execute: 'blockdev-add',
      arguments: {
        driver: 'file',
        'node-name': `${JOB}-file`,
        filename: DESTINATION,
        discard: 'unmap',
        cache: CACHE,
      },
    },
  },
  undo: blockdevDel(`${JOB}-file`),
};
const addFormat = (options: object) => ({
  name: 'add-destination',
  run: {
    do: 'qmp',
    command: {
      execute: 'blockdev-add',
      arguments: {
        ...options,
        'node-name': JOB,
        file: `${JOB}-file`,
        discard: 'unmap',
        cache: CACHE,
        'detect-zeroes': 'unmap',
      },
    },
  },
  undo: blockdevDel(JOB),
});
const mirror = (options: object) => ({
  name: 'start-mirror',
  run: {
    do: 'qmp',
    command: {
      execute: 'blockdev-mirror',
      arguments: {
        'job-id': JOB,
        device: 'top',
        target: JOB,
        sync: 'full',
        'on-source-error': 'report',
        'filter-node-name': `${JOB}-filter`,
        'copy-mode': 'background',
        'auto-finalize': true,
        'auto-dismiss': false,
        ...options,
      },
    },
  },
  undo: { do: 'end-qmp-job', qemuJob: JOB },
});

describe('the plan of a copy', () => {
  it('makes a raw file of the disk’s size, opens it, and mirrors', () => {
    const options = { ...OPTIONS, format: 'RAW' } as const;
    expect(planCopy(JOB, FROM, TO, options)).toEqual([
      createFile(10_737_418_240),
      addFile,
      addFormat({ driver: 'raw' }),
      mirror({ speed: 0, 'buf-size': 1_048_576, 'on-target-error': 'enospc' }),
    ]);
  });

  it('makes an empty file, formats it like the source, opens it without a backing file, and mirrors', () => {
    const options = {
      ...OPTIONS,
      bandwidthBytesPerSecond: 1000,
      granularityBytes: 4096,
      bufferBytes: 65_536,
      onNoSpace: 'FAIL',
    } as const;
    expect(planCopy(JOB, FROM, TO, options)).toEqual([
      createFile(0),
      addFile,
      {
        name: 'format-destination',
        run: {
          do: 'qmp-job',
          command: {
            execute: 'blockdev-create',
            arguments: {
              'job-id': `${JOB}-create`,
              options: {
                driver: 'qcow2',
                file: `${JOB}-file`,
                size: 10_737_418_240,
                'cluster-size': 131_072,
                'extended-l2': true,
              },
            },
          },
          qemuJob: `${JOB}-create`,
        },
        undo: { do: 'end-qmp-job', qemuJob: `${JOB}-create` },
      },
      addFormat({ driver: 'qcow2', backing: null }),
      mirror({ speed: 1000, granularity: 4096, 'buf-size': 65_536, 'on-target-error': 'report' }),
    ]);
  });

  it('gives a qcow2 copy of a raw disk QEMU’s own cluster size', () => {
    const raw = { ...FROM, clusterSizeBytes: undefined, extendedL2: false };
    const format = planCopy(JOB, raw, TO, OPTIONS).find(({ name }) => name === 'format-destination');
    expect(format?.run).toMatchObject({
      command: { arguments: { options: { driver: 'qcow2', file: `${JOB}-file`, size: 10_737_418_240 } } },
    });
    expect(JSON.stringify(format)).not.toMatch(/cluster-size|extended-l2/);
  });

  it('has step names that differ, an undo for each, and survives its journey through the journal', () => {
    for (const format of ['RAW', 'QCOW2'] as const) {
      const plan = planCopy(JOB, FROM, { ...TO, owner: undefined }, { ...OPTIONS, format });
      expect(new Set(plan.map(({ name }) => name)).size).toBe(plan.length);
      expect(plan.every(({ undo }) => undo !== undefined)).toBe(true);
      expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    }
  });

  it('never waits for a finalization, never dismisses by itself and never ignores an error', () => {
    for (const format of ['RAW', 'QCOW2'] as const) {
      for (const onNoSpace of ['PAUSE', 'FAIL'] as const) {
        const text = JSON.stringify(planCopy(JOB, FROM, TO, { ...OPTIONS, format, onNoSpace }));
        expect(text).toContain('"auto-finalize":true,"auto-dismiss":false');
        expect(text).not.toMatch(/ignore|drive-mirror|"no-flush":true/);
      }
    }
  });
});

describe('names in QEMU', () => {
  it('are all different, and short enough for a node (31 characters)', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: 16, maxLength: 16 }),
        (hex) => {
          const { node, file, filter, create } = namesOf(`bj${hex}`);
          expect(new Set([node, file, filter, create]).size).toBe(4);
          for (const name of [node, file, filter]) {
            expect(name.length).toBeLessThanOrEqual(31);
            // QEMU's own check of an id (id_wellformed).
            expect(name).toMatch(/^[A-Za-z][A-Za-z0-9._-]*$/);
          }
        },
      ),
    );
  });
});

const concluded = (how: Concluded['how'], deviceOn: DeviceOn, qemuError: string | undefined): Concluded => ({
  entry: 'concluded',
  how,
  deviceOn,
  qemuError,
  devicePath: undefined,
});
const settling = (before: readonly EntryBody[], end: Concluded) =>
  planSettling(jobOf(CREATED, ...before, end)).map(({ name }) => name);

describe('the plan that settles a job', () => {
  const DISMISS = 'dismiss-mirror';
  const OF_SOURCE = ['close-top', 'close-top-file'];
  const OF_DESTINATION = [`close-${JOB}`, `close-${JOB}-file`];
  const ERROR = 'Input/output error';

  it.each<[Concluded['how'], DeviceOn, string | undefined, 'before READY' | 'after READY', readonly string[]]>([
    // A pivot: the source is what nobody uses any more.
    ['CONCLUDED', 'DESTINATION', undefined, 'after READY', [DISMISS, ...OF_SOURCE]],
    ['VANISHED', 'DESTINATION', undefined, 'after READY', [DISMISS, ...OF_SOURCE]],
    ['CONCLUDED', 'DESTINATION', ERROR, 'before READY', [DISMISS, ...OF_SOURCE]],
    // An end without a pivot: the destination is, and its file is a copy, or was one.
    ['CONCLUDED', 'SOURCE', undefined, 'after READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'SOURCE', ERROR, 'after READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'SOURCE', undefined, 'before READY', [DISMISS, ...OF_DESTINATION]],
    // The one case in which the file is rubbish for certain.
    ['CONCLUDED', 'SOURCE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION, 'remove-destination']],
    // QEMU's result was not seen, or the device was not: nothing is removed.
    ['VANISHED', 'SOURCE', undefined, 'before READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'ELSEWHERE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION]],
    ['CONCLUDED', 'NOWHERE', ERROR, 'before READY', [DISMISS, ...OF_DESTINATION]],
    // Nothing of QEMU is left to be settled.
    ['QEMU_ENDED', 'NOWHERE', undefined, 'before READY', []],
    ['QEMU_ENDED', 'NOWHERE', undefined, 'after READY', []],
  ])('%s, device on %s, error %s, %s: %j', (how, deviceOn, error, when, expected) => {
    const before = when === 'after READY' ? [RUNNING, READY] : [RUNNING];
    expect(settling(before, concluded(how, deviceOn, error))).toEqual(expected);
  });

  it('removes a file only if QEMU itself proved the copy unfinished and the device was seen on the source', () => {
    for (const how of ['CONCLUDED', 'VANISHED', 'QEMU_ENDED'] as const) {
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

  it('dismisses the job before it closes nodes, and says which step made the file that it removes', () => {
    const plan = planSettling(jobOf(CREATED, RUNNING, concluded('CONCLUDED', 'SOURCE', 'Operation canceled')));
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

  it('is empty while the job has not concluded', () => {
    expect(planSettling(jobOf(RUNNING, READY))).toEqual([]);
  });
});
