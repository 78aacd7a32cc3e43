/** The plan of a copy, and what takes away what it leaves: `+` a step, `-` its undo, side by side. */
import type { Disk } from '../chain.ts';
import type { Job } from '../job.ts';
import type { CopyOptions } from '../journal-entry.ts';
import type { BlockdevOptions, QmpCommand } from '../qemu/commands.ts';
import type { Action, FileOwner, Plan, Step } from './step.ts';

/** Job ids: a letter first, as QEMU wants it, and short, as node names are made of it. */
export function isOurs(qemuJob: string): boolean {
  return /^bj[0-9a-f]{16}$/.test(qemuJob);
}

/** Names in QEMU by rule, so that "did it happen?" is a look-up. A node name has at most 31 characters. */
export function namesOf(job: string) {
  return {
    node: job,
    file: `${job}-file`,
    filter: `${job}-filter`,
    create: `${job}-create`,
  };
}

export interface CopySource {
  readonly disk: Disk;
  readonly node: string;
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
}

/** A new file, or one of zero length that is there already. */
export interface CopyDestination {
  readonly path: string;
  readonly takeOver: boolean;
  /** As whom QEMU opens it; undefined: not known, or nobody else than we. */
  readonly owner: FileOwner | undefined;
}

/** Full copy of a disk into a new file. */
export function planCopy(job: string, source: CopySource, destination: CopyDestination, options: CopyOptions): Plan {
  const { path, takeOver, owner } = destination;
  const names = namesOf(job);
  // The guest runs with these options after a pivot: as on the source, but that a flush is always a flush, since
  // READY and every ending vouch for data on stable storage. discard on both nodes, or a raw copy loses its holes.
  const cache = { direct: source.disk.cacheDirect, 'no-flush': false };
  const file: BlockdevOptions = {
    driver: 'file',
    'node-name': names.file,
    filename: path,
    discard: 'unmap',
    cache,
  };
  const format = {
    'node-name': names.node,
    file: names.file,
    discard: 'unmap',
    cache,
    'detect-zeroes': source.disk.detectZeroes,
  } as const;

  const createFile: Step = {
    name: 'create-destination',
    run: {
      do: 'create-file',
      path,
      takeOver,
      // raw: the file is the disk. qcow2 grows by itself.
      sizeBytes: options.format === 'RAW' ? source.virtualSizeBytes : 0,
      owner,
    },
    undo: { do: 'remove-file', path, madeBy: 'create-destination' },
  };
  const addFile: Step = addNode('add-destination-file', file);
  const formatFile: Step = {
    name: 'format-destination',
    run: {
      do: 'qmp-job',
      command: {
        execute: 'blockdev-create',
        arguments: {
          'job-id': names.create,
          options: {
            driver: 'qcow2',
            file: names.file,
            size: source.virtualSizeBytes,
            ...(source.clusterSizeBytes === undefined ? {} : { 'cluster-size': source.clusterSizeBytes }),
            ...(source.extendedL2 ? { 'extended-l2': true } : {}),
          },
        },
      },
      qemuJob: names.create,
    },
    undo: { do: 'end-qmp-job', qemuJob: names.create },
  };
  const addFormat: Step =
    options.format === 'RAW'
      ? addNode('add-destination', { driver: 'raw', ...format })
      : addNode('add-destination', { driver: 'qcow2', backing: null, ...format });
  const mirror: Step = {
    name: 'start-mirror',
    run: {
      do: 'qmp',
      command: {
        execute: 'blockdev-mirror',
        arguments: {
          'job-id': job,
          device: source.node,
          target: names.node,
          sync: 'full',
          speed: options.bandwidthBytesPerSecond,
          ...(options.granularityBytes === undefined ? {} : { granularity: options.granularityBytes }),
          'buf-size': options.bufferBytes,
          'on-source-error': 'report',
          'on-target-error': options.onNoSpace === 'PAUSE' ? 'enospc' : 'report',
          'filter-node-name': names.filter,
          'copy-mode': 'background',
          // PENDING would freeze the guest's disk; a result that nobody has read yet must not go away.
          'auto-finalize': true,
          'auto-dismiss': false,
        },
      },
    },
    undo: { do: 'end-qmp-job', qemuJob: job },
  };
  return options.format === 'RAW'
    ? [createFile, addFile, addFormat, mirror]
    : [createFile, addFile, formatFile, addFormat, mirror];
}

function addNode(name: string, options: BlockdevOptions): Step {
  return {
    name,
    run: qmp({ execute: 'blockdev-add', arguments: options }),
    undo: deleteNode(options['node-name']),
  };
}

function deleteNode(node: string): Action {
  return qmp({ execute: 'blockdev-del', arguments: { 'node-name': node } });
}

function qmp(command: QmpCommand): Action {
  return { do: 'qmp', command };
}

/**
 * What is left to do when QEMU has concluded the job and that is written down: dismiss it, then close what nobody
 * uses any more, each node before those it uses. After a pivot that is the source's chain; else the destination.
 */
export function planSettling(job: Job): Plan {
  const { accepted, concluded } = job;
  if (concluded === undefined) return [];
  const steps: Step[] = [];
  if (concluded.how !== 'QEMU_ENDED') {
    const unused = concluded.deviceOn === 'DESTINATION' ? accepted.sourceNodes : accepted.destination.nodes;
    steps.push({ name: 'dismiss-mirror', run: { do: 'end-qmp-job', qemuJob: accepted.job } });
    for (const node of unused) {
      // QEMU named this one itself: it goes away with what it belongs to, and nobody else may delete it.
      if (!node.startsWith('#')) steps.push({ name: `close-${node}`, run: deleteNode(node) });
    }
  }
  if (isRubbish(job)) {
    const { path } = accepted.destination;
    steps.push({
      name: 'remove-destination',
      run: { do: 'remove-file', path, madeBy: 'create-destination' },
    });
  }
  return steps;
}

/** A destination that never became a copy, proved by QEMU's own result and by where the guest's device is. */
function isRubbish(job: Job): boolean {
  const { concluded } = job;
  return (
    job.readyTime === undefined &&
    concluded?.how === 'CONCLUDED' &&
    concluded.qemuError !== undefined &&
    concluded.deviceOn === 'SOURCE'
  );
}
