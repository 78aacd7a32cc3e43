/* oxlint-disable unicorn/consistent-function-scoping */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backingNamesOf, isJobId, namesOf } from '../../../../src/core/job/names.ts';
import { nodesOf, planCopy } from '../../../../src/core/plans/copy.ts';
import type { Backing, CopyDestination, CopySource } from '../../../../src/core/plans/copy-ends.ts';
import { DESTINATION, JOB, OPTIONS } from '../stories.ts';

const FROM: CopySource = {
  node: 'top',
  virtualSizeBytes: 10_737_418_240,
  clusterSizeBytes: 131_072,
  extendedL2: true,
  cacheDirect: true,
  detectZeroes: 'unmap',
  topOnly: false,
};
const OWNER = { uid: 107, gid: 108 };
const TO: CopyDestination = {
  storage: { driver: 'file', filename: DESTINATION },
  format: 'QCOW2',
  encryption: undefined,
  make: { new: 'FILE', takeOver: false, owner: OWNER, mode: 0o640 },
  backing: undefined,
  backingName: undefined,
};
const RAW: CopyDestination = { ...TO, format: 'RAW' };
/** An existing file is used as it is. */
const AS_IT_IS = { make: undefined } as const;
const CACHE = { direct: true, 'no-flush': false };

const createFile = (sizeBytes: number) => ({
  name: 'create-destination',
  run: { do: 'create-file', path: DESTINATION, takeOver: false, sizeBytes, owner: OWNER, mode: 0o640 },
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
const prove = (path: string, isNew: boolean) => ({
  name: 'prove-destination',
  run: { do: 'prove-file', node: `${JOB}-file`, path, isNew },
});
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

const OWN_CHAIN: Backing = {
  is: 'IMAGE',
  path: '/pool/snap1.qcow2',
  driver: 'qcow2',
  storage: 'file',
  below: { is: 'IMAGE', path: '/dev/vg/base', driver: 'raw', storage: 'host_device', below: undefined },
};
const commandsOf = (...args: Parameters<typeof planCopy>) =>
  planCopy(...args)
    .flatMap(({ run }) => (run.do === 'qmp' || run.do === 'qmp-job' ? run.command : []))
    .map((command) => ({ execute: command.execute, arguments: 'arguments' in command ? command.arguments : {} }));

describe('the plan of a copy', () => {
  it('makes a raw file of the disk’s size, opens it, and mirrors', () => {
    expect(planCopy(JOB, FROM, RAW, OPTIONS)).toEqual([
      createFile(10_737_418_240),
      addFile,
      prove(DESTINATION, true),
      addFormat({ driver: 'raw' }),
      mirror({ speed: 0, 'buf-size': 16_777_216, 'on-target-error': 'enospc' }),
    ]);
  });

  it('makes an empty file, formats it like the source, opens it without a backing file, and mirrors', () => {
    const options = {
      ...OPTIONS,
      bandwidthBytesPerSecond: 1000,
      granularityBytes: 4096,
      bufferBytes: 33_554_432,
      onNoSpace: 'FAIL',
    } as const;
    expect(planCopy(JOB, FROM, TO, options)).toEqual([
      createFile(0),
      addFile,
      prove(DESTINATION, true),
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
      mirror({ speed: 1000, granularity: 4096, 'buf-size': 33_554_432, 'on-target-error': 'report' }),
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

  it('has step names that differ, an undo for each that changes something, and survives its journey through the journal', () => {
    for (const to of [TO, RAW, { ...TO, ...AS_IT_IS }, { ...TO, backing: OWN_CHAIN }]) {
      const plan = planCopy(JOB, FROM, to, OPTIONS);
      expect(new Set(plan.map(({ name }) => name)).size).toBe(plan.length);
      const changes = plan.filter(({ run }) => run.do !== 'prove-file');
      expect(changes.every(({ undo }) => undo !== undefined)).toBe(true);
      expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
      expect(plan.at(-1)?.name).toBe('start-mirror');
    }
  });

  it('never waits for a finalization, never dismisses by itself and never ignores an error', () => {
    for (const to of [TO, RAW]) {
      for (const onNoSpace of ['PAUSE', 'FAIL'] as const) {
        const text = JSON.stringify(planCopy(JOB, FROM, to, { ...OPTIONS, onNoSpace }));
        expect(text).toContain('"auto-finalize":true,"auto-dismiss":false');
        expect(text).not.toMatch(/ignore|drive-mirror|"no-flush":true/);
      }
    }
  });
});

describe('the plan of a copy to another destination', () => {
  it('uses an existing file unchanged: no file is made, nothing is formatted', () => {
    const plan = planCopy(JOB, FROM, { ...TO, ...AS_IT_IS }, OPTIONS);
    expect(plan.map(({ name }) => name)).toEqual([
      'add-destination-file',
      'prove-destination',
      'add-destination',
      'start-mirror',
    ]);
    expect(plan[1]).toEqual(prove(DESTINATION, false));
    expect(plan[2]).toEqual(addFormat({ driver: 'qcow2', backing: null }));
  });

  it('makes QEMU prove that it has opened exactly the checked files, before any of them is shown or written', () => {
    const known = (path: string) => ({ path, device: '1', inode: '2', birthTimeNs: '3' });
    const below = {
      is: 'IMAGE',
      path: '/b',
      driver: 'raw',
      storage: 'file',
      file: known('/b'),
      below: undefined,
    } as const;
    const storage = { driver: 'file', filename: DESTINATION, file: known(DESTINATION) } as const;
    const plan = planCopy(JOB, FROM, { ...TO, ...AS_IT_IS, storage, backing: below }, OPTIONS);
    expect(plan.map(({ name }) => name)).toEqual([
      'add-destination-file',
      'prove-destination',
      'add-backing-1-file',
      'prove-backing-1',
      'add-backing-1',
      'add-destination',
      'start-mirror',
    ]);
    expect(plan[1]?.run).toEqual({ ...prove(DESTINATION, false).run, file: known(DESTINATION) });
    expect(plan[3]?.run).toMatchObject({ do: 'prove-file', path: '/b', file: known('/b'), isBacking: true });
  });

  it('gives a block device a header only if that was planned', () => {
    const device = { ...TO, storage: { driver: 'host_device', filename: '/dev/vdb' } } as const;
    const names = (to: CopyDestination) => planCopy(JOB, FROM, to, OPTIONS).map(({ name }) => name);
    expect(names({ ...device, make: { new: 'HEADER' } })).toEqual([
      'add-destination-file',
      'prove-destination',
      'format-destination',
      'add-destination',
      'start-mirror',
    ]);
    expect(names({ ...device, ...AS_IT_IS })).not.toContain('format-destination');
    expect(commandsOf(JOB, FROM, { ...device, ...AS_IT_IS }, OPTIONS)[0]).toMatchObject({
      arguments: { driver: 'host_device', filename: '/dev/vdb', discard: 'unmap' },
    });
  });

  it('uses a key of QEMU’s by its id, to make the image and to open it', () => {
    const to = { ...TO, encryption: { secretId: 's0' } };
    const key = { format: 'luks', 'key-secret': 's0' };
    const [, create, add] = commandsOf(JOB, FROM, to, OPTIONS);
    expect(create).toMatchObject({
      execute: 'blockdev-create',
      arguments: { options: { driver: 'qcow2', encrypt: { ...key, 'iter-time': 200 } } },
    });
    expect(add).toMatchObject({ execute: 'blockdev-add', arguments: { driver: 'qcow2', backing: null, encrypt: key } });
    expect(commandsOf(JOB, FROM, { ...to, ...AS_IT_IS }, OPTIONS)[1]).toEqual(add);
    expect(JSON.stringify(planCopy(JOB, FROM, TO, OPTIONS))).not.toContain('encrypt');
  });

  it('reaches an NBD export, with TLS if it has credentials', () => {
    const server = { kind: 'tcp', host: 'h', port: 10_809 } as const;
    const tls = { tlsCredentialsId: '', tlsHostname: '' };
    const plain = { driver: 'nbd', server, exportName: 'd', ...tls, opensInTime: false } as const;
    const add = (storage: CopyDestination['storage']) =>
      commandsOf(JOB, FROM, { ...RAW, storage, ...AS_IT_IS }, OPTIONS)[0]?.arguments;
    expect(add(plain)).toEqual({
      driver: 'nbd',
      server: { type: 'inet', host: 'h', port: '10809' },
      export: 'd',
      'reconnect-delay': 10,
      'node-name': `${JOB}-file`,
      discard: 'unmap',
      cache: CACHE,
    });
    expect(add({ ...plain, tlsCredentialsId: 'tls0', tlsHostname: 'x' })).toMatchObject({
      'tls-creds': 'tls0',
      'tls-hostname': 'x',
    });
    expect(add({ ...plain, opensInTime: true })).toMatchObject({ 'open-timeout': 5 });
    expect(add({ ...plain, server: { kind: 'unix', path: '/s' } })).toMatchObject({
      server: { type: 'unix', path: '/s' },
    });
  });

  it('puts a shallow copy over the node that backs the source, and writes its name into the header', () => {
    const to: CopyDestination = {
      ...TO,
      backing: { is: 'NODE', node: 'snap1' },
      backingName: { file: '../base.qcow2', format: 'qcow2' },
    };
    const commands = commandsOf(JOB, { ...FROM, topOnly: true }, to, OPTIONS);
    expect(commands[1]).toMatchObject({
      execute: 'blockdev-create',
      arguments: { options: { 'backing-file': '../base.qcow2', 'backing-fmt': 'qcow2' } },
    });
    expect(commands[2]).toMatchObject({ arguments: { 'node-name': JOB, backing: 'snap1' } });
    expect(commands[3]).toMatchObject({ execute: 'blockdev-mirror', arguments: { sync: 'top' } });
    expect(nodesOf(JOB, to)).toEqual([JOB, `${JOB}-file`]);
  });

  it("opens the destination's own chain from the base up, each image with its driver and its backing node", () => {
    const to: CopyDestination = { ...TO, ...AS_IT_IS, backing: OWN_CHAIN };
    const plan = planCopy(JOB, { ...FROM, topOnly: true }, to, OPTIONS);
    expect(plan.map(({ name }) => name)).toEqual([
      'add-destination-file',
      'prove-destination',
      'add-backing-2-file',
      'add-backing-2',
      'add-backing-1-file',
      'add-backing-1',
      'add-destination',
      'start-mirror',
    ]);
    const added = commandsOf(JOB, FROM, to, OPTIONS).map(({ arguments: options }) => options);
    const readOnly = { 'read-only': true, 'auto-read-only': true, cache: CACHE };
    expect(added.slice(1, 6)).toEqual([
      { driver: 'host_device', 'node-name': `${JOB}-b2-file`, filename: '/dev/vg/base', ...readOnly },
      { driver: 'raw', 'node-name': `${JOB}-b2`, file: `${JOB}-b2-file`, ...readOnly },
      { driver: 'file', 'node-name': `${JOB}-b1-file`, filename: '/pool/snap1.qcow2', ...readOnly },
      { driver: 'qcow2', 'node-name': `${JOB}-b1`, file: `${JOB}-b1-file`, backing: `${JOB}-b2`, ...readOnly },
      expect.objectContaining({ 'node-name': JOB, backing: `${JOB}-b1` }),
    ]);
    expect(nodesOf(JOB, to)).toEqual([
      JOB,
      `${JOB}-file`,
      `${JOB}-b1`,
      `${JOB}-b1-file`,
      `${JOB}-b2`,
      `${JOB}-b2-file`,
    ]);
  });

  it('holds the guest when a blocking mirror begins, and lets it stop rather than fail', () => {
    const blocking = { ...OPTIONS, writeMode: 'BLOCKING' } as const;
    const start = planCopy(JOB, FROM, TO, blocking).at(-1);
    expect(start).toMatchObject({
      holdsGuest: true,
      run: {
        command: { arguments: { 'copy-mode': 'write-blocking', 'on-target-error': 'stop', 'on-source-error': 'stop' } },
      },
    });
    expect(planCopy(JOB, FROM, TO, { ...blocking, pauseGuest: 'NEVER' }).at(-1)).not.toHaveProperty('holdsGuest');
    expect(planCopy(JOB, FROM, TO, OPTIONS).at(-1)).not.toHaveProperty('holdsGuest');
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
          expect(isJobId(`bj${hex}`)).toBe(true);
          const deepest = backingNamesOf(`bj${hex}`, 200);
          for (const name of [node, file, filter, deepest.node, deepest.file]) {
            expect(name.length).toBeLessThanOrEqual(31);
            // QEMU's own check of an id (id_wellformed).
            expect(name).toMatch(/^[A-Za-z][A-Za-z0-9._-]*$/);
          }
        },
      ),
    );
  });
});
