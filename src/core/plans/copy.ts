/** The plan of a copy: it makes or opens the destination, and then begins the mirror. */
import { type Encryption, nbdUri } from '../destination.ts';
import { backingNamesOf, namesOf } from '../job/names.ts';
import { VERIFY_STEP } from '../job/reuse.ts';
import type { Plan, Step } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import type { BlockdevOptions, NbdOptions } from '../qemu/commands.ts';
import type { Backing, CopyDestination, CopySource, Storage } from './copy-ends.ts';
import { addNode, startJob } from './steps.ts';

/** The guest's own time-out for its disk is 30 seconds and more. */
const OPEN_LIMIT_SECONDS = 5;

export function planCopy(job: string, source: CopySource, destination: CopyDestination, options: JobOptions): Plan {
  const names = namesOf(job);
  // The guest runs with these options after a pivot. They are as on the source, but a flush is always a flush, because
  // READY and every end promise stable data. discard is on both nodes, or a raw copy loses its holes.
  const cache = { direct: source.cacheDirect, 'no-flush': false };
  const steps: Step[] = [];
  const { storage, make } = destination;
  if (make?.new === 'FILE' && storage.driver !== 'nbd') {
    const path = storage.filename;
    const { takeOver, owner, mode } = make;
    // raw: the file is the disk. qcow2 grows by itself.
    const sizeBytes = destination.format === 'RAW' ? source.virtualSizeBytes : 0;
    steps.push({
      name: 'create-destination',
      run: { do: 'create-file', path, takeOver, sizeBytes, owner, mode },
      undo: { do: 'remove-file', path, madeBy: 'create-destination' },
    });
  }
  const common = { 'node-name': names.file, discard: 'unmap', cache } as const;
  const file: BlockdevOptions =
    storage.driver === 'nbd'
      ? { ...nbdOptions(storage), ...common }
      : { driver: storage.driver, filename: storage.filename, ...common };
  steps.push(addNode('add-destination-file', file));
  if (storage.driver !== 'nbd') {
    const { filename: path, file: found } = storage;
    const isNew = make?.new === 'FILE';
    const run = { do: 'prove-file', node: names.file, path, isNew, ...(found && { file: found }) } as const;
    steps.push({ name: 'prove-destination', run });
  }
  if (make !== undefined && destination.format === 'QCOW2') steps.push(format(job, source, destination));
  const backing = addBacking(job, destination.backing, 1, cache, steps);
  const overlay = {
    'node-name': names.node,
    file: names.file,
    discard: 'unmap',
    cache,
    'detect-zeroes': source.detectZeroes,
  } as const;
  steps.push(
    destination.format === 'RAW'
      ? addNode('add-destination', { driver: 'raw', ...overlay })
      : addNode('add-destination', {
          driver: 'qcow2',
          ...overlay,
          backing: backing ?? null,
          ...(destination.encryption && { encrypt: luksKey(destination.encryption) }),
        }),
  );
  steps.push(...compareFirst(job, source, destination, options));
  steps.push(mirror(job, source, options));
  return steps;
}

function nbdOptions(storage: Extract<Storage, { driver: 'nbd' }>) {
  const { server, exportName, tlsCredentialsId, tlsHostname, opensInTime } = storage;
  const address: NbdOptions['server'] =
    server.kind === 'tcp'
      ? { type: 'inet', host: server.host, port: String(server.port) }
      : { type: 'unix', path: server.path };
  return {
    driver: 'nbd',
    server: address,
    export: exportName,
    ...(tlsCredentialsId === '' ? {} : { 'tls-creds': tlsCredentialsId }),
    ...(tlsHostname === '' ? {} : { 'tls-hostname': tlsHostname }),
    // A short network outage is waited for; a longer one is an I/O error, so that a copy does not hang for ever.
    'reconnect-delay': 10,
    // The guest's CPUs wait meanwhile.
    ...(opensInTime ? { 'open-timeout': OPEN_LIMIT_SECONDS } : {}),
  } as const;
}

/** Opens the destination's own chain, the lowest image first; returns the node that backs the next one. */
function addBacking(
  job: string,
  backing: Backing | undefined,
  number: number,
  cache: { direct: boolean; 'no-flush': boolean },
  steps: Step[],
): string | undefined {
  if (backing === undefined) return undefined;
  if (backing.is === 'NODE') return backing.node;
  const below = addBacking(job, backing.below, number + 1, cache, steps);
  const names = backingNamesOf(job, number);
  // auto-read-only: a later commit may want to write into it, and read-only would forbid that for good.
  steps.push(
    addNode(`add-backing-${number}-file`, {
      driver: backing.storage,
      'node-name': names.file,
      filename: backing.path,
      'read-only': true,
      'auto-read-only': true,
      cache,
    }),
  );
  const { path, file } = backing;
  if (file !== undefined) {
    // The guest would see its contents.
    const run = { do: 'prove-file', node: names.file, path, isNew: false, file, isBacking: true } as const;
    steps.push({ name: `prove-backing-${number}`, run });
  }
  const { node, file: storage } = names;
  const image = { 'node-name': node, file: storage, 'read-only': true, 'auto-read-only': true, cache } as const;
  steps.push(
    addNode(
      `add-backing-${number}`,
      backing.driver === 'qcow2'
        ? { driver: 'qcow2', ...image, backing: below ?? null }
        : { driver: backing.driver, ...image },
    ),
  );
  return node;
}

/** The nodes that the plan adds, each before those it uses. */
export function nodesOf(job: string, { backing }: CopyDestination): readonly string[] {
  const names = namesOf(job);
  const nodes = [names.node, names.file];
  for (let [image, number] = [backing, 1]; image?.is === 'IMAGE'; [image, number] = [image.below, number + 1]) {
    const own = backingNamesOf(job, number);
    nodes.push(own.node, own.file);
  }
  return nodes;
}

function mirror(job: string, source: CopySource, options: JobOptions): Step {
  const names = namesOf(job);
  const blocking = options.writeMode === 'BLOCKING';
  const mayBlock = blocking || options.endPolicy?.switchToBlocking === true;
  const step = startJob('start-mirror', job, {
    execute: 'blockdev-mirror',
    arguments: {
      'job-id': job,
      device: source.node,
      target: names.node,
      sync: source.topOnly ? 'top' : 'full',
      speed: options.bandwidthBytesPerSecond,
      ...(options.granularityBytes === undefined ? {} : { granularity: options.granularityBytes }),
      'buf-size': options.bufferBytes,
      // A blocking copy that fails under a busy guest can crash QEMU: it pauses instead, and is ended with care.
      'on-source-error': mayBlock ? 'stop' : 'report',
      'on-target-error': mayBlock ? 'stop' : options.onNoSpace === 'PAUSE' ? 'enospc' : 'report',
      'filter-node-name': names.filter,
      'copy-mode': blocking ? 'write-blocking' : 'background',
      // PENDING would freeze the guest's disk; and a result that nobody has read must not disappear.
      'auto-finalize': true,
      'auto-dismiss': false,
    },
  });
  return blocking && options.pauseGuest !== 'NEVER' ? { ...step, holdsGuest: true } : step;
}

/** Before the mirror: compares the reused part of the destination with the contents that it must have. */
function compareFirst(
  job: string,
  { virtualSizeBytes }: CopySource,
  { storage, verify: backing }: CopyDestination,
  { bandwidthBytesPerSecond }: JobOptions,
): readonly Step[] {
  if (backing === undefined) return [];
  const path = storage.driver === 'nbd' ? nbdUri(storage) : storage.filename;
  const destination = { node: namesOf(job).node, path, bytes: virtualSizeBytes };
  const comparison = { job, destination, backing, bandwidthBytesPerSecond };
  return [{ name: VERIFY_STEP, run: { do: 'compare', comparison }, undo: { do: 'end-comparison', job } }];
}

/**
 * How long QEMU derives the key each time it opens the image, while the guest waits. QEMU's default of 2,000 would make
 * the guest wait that long, too. This is some 700,000 rounds of PBKDF2 with SHA-256: enough for a passphrase.
 */
const KEY_DERIVATION_MS = 200;

/** The id of the key in QEMU. */
export function luksKey({ secretId }: Encryption) {
  return { format: 'luks', 'key-secret': secretId } as const;
}

export function format(
  job: string,
  source: Pick<CopySource, 'virtualSizeBytes' | 'clusterSizeBytes' | 'extendedL2'>,
  { backingName: backing, encryption }: Pick<CopyDestination, 'backingName' | 'encryption'>,
): Step {
  const names = namesOf(job);
  return {
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
            ...(backing === undefined ? {} : { 'backing-file': backing.file, 'backing-fmt': backing.format }),
            ...(encryption && { encrypt: { ...luksKey(encryption), 'iter-time': KEY_DERIVATION_MS } }),
          },
        },
      },
      qemuJob: names.create,
    },
    undo: { do: 'end-qmp-job', qemuJob: names.create },
  };
}
