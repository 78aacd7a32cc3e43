/**
 * Puts what QEMU has written for a job on stable storage, and reads back what is there.
 *
 * The files are synced here first: that is the long part, and holds up nobody. QEMU's own flush, which waits for its
 * disk and holds up the VM meanwhile, then finds little to do. They are synced again after it, for a disk whose cache
 * mode leaves flushes out. A file stays open from the first time on: so this hears an error of its write-back also
 * where QEMU has heard it first, and kept it to itself.
 */
import { resolveFrom } from '../../core/disk/chain-images.ts';
import { losesSnapshots } from '../../core/disk/judge.ts';
import { BlockJobError, type Failure, failure } from '../../core/errors.ts';
import {
  type Handover,
  type HeaderOnDisk,
  headerOnDisk,
  type NodeOfImage,
  writtenImages,
} from '../../core/job/handover.ts';
import type { Job } from '../../core/job/job.ts';
import type { EntryBody } from '../../core/job/journal-entry.ts';
import type { KnownFile } from '../../core/job/step.ts';
import type { Move } from '../../core/moves/moves.ts';
import { flushesOf } from '../../core/qemu/flush.ts';
import { Refused } from '../../qmp/errors.ts';
import type { DiskFile } from '../host/disk-files.ts';
import { isNoSuchNode, qemuFailure } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { fileKey, hasSnapshots, openToSync } from './files.ts';
import { readHeader } from './place.ts';
import { movedAway, mustBeInPlace } from './prove-file.ts';

interface FlushOptions {
  /** The data of these nodes is already on stable storage: a node that is gone has no more. */
  readonly mayBeGone: boolean;
}

type Opens = Pick<VirtualMachine, 'openFiles'>;

export class StableStorage implements AsyncDisposable {
  readonly #open = new Map<string, DiskFile>();

  /** Resolves to the entry to be written. Rejects while QEMU is unreachable. */
  async carryOut(
    { what, images }: Extract<Move, { move: 'flush' }>,
    { flushed, accepted }: Pick<Job, 'flushed' | 'accepted'>,
    machine: Pick<VirtualMachine, 'execute'> & Opens,
  ): Promise<EntryBody> {
    const lost = what === 'DATA' ? await lossOf(accepted, machine) : undefined;
    if (lost !== undefined) return { entry: 'flush-failed', failure: lost };
    // Flushed data is there, even if its node was closed since.
    const failed = await this.#flush(images, machine, { mayBeGone: flushed === 'DATA' });
    return failed === undefined ? { entry: 'flushed', what } : { entry: 'flush-failed', failure: failed };
  }

  /** Undefined if everything is there. */
  async #flush(
    images: readonly NodeOfImage[],
    machine: Pick<VirtualMachine, 'execute'>,
    options: FlushOptions,
  ): Promise<Failure | undefined> {
    for (const image of images) {
      const failed =
        (await this.#sync(image.path)) ?? (await flushNode(image, machine, options)) ?? (await this.#sync(image.path));
      if (failed !== undefined) return failed;
    }
    return undefined;
  }

  /** Data in the page cache is written to disk first: the read returns what a power cut would leave. */
  async readBack(handover: Handover, files: readonly KnownFile[], machine: Opens | undefined): Promise<HeaderOnDisk> {
    const { path } = handover.overlay;
    for (const image of writtenImages(handover)) {
      const failed = await this.#sync(image.path);
      if (failed !== undefined) return { is: 'UNKNOWN', why: failed.text };
    }
    try {
      // Under these names the disk would open as another one next time.
      await mustBeInPlace(files, machine);
      return await headerOnDisk(handover, await readHeader(path), async (named, wanted) => {
        const found = resolveFrom(path, named);
        return found !== undefined && (await fileKey(found)) === (await fileKey(wanted));
      });
    } catch (error) {
      // Any error of the file system means that nothing is proved.
      return { is: 'UNKNOWN', why: error instanceof BlockJobError ? error.failure.text : String(error) };
    }
  }

  /** For a file that is not here, or that this service may not open, QEMU's flush has to do. */
  async #sync(path: string): Promise<Failure | undefined> {
    const handle = this.#open.get(path) ?? (await openToSync(path));
    if (handle === undefined) return undefined;
    this.#open.set(path, handle);
    try {
      await handle.sync();
      return undefined;
    } catch (error) {
      return notFlushed(path, 'GenericError', error instanceof Error ? error.message : String(error));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const handles = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(handles.map(async (handle) => await handle.close()));
  }
}

function notFlushed(path: string, qemuClass: string, why: string): Failure {
  return qemuFailure(qemuClass, why, { domain: '', path, doing: `flushing ${path}` });
}

/** QEMU has one of the two commands, and refuses it in its own words once the flush is done. */
async function flushNode(
  { node, path }: NodeOfImage,
  machine: Pick<VirtualMachine, 'execute'>,
  { mayBeGone }: FlushOptions,
): Promise<Failure | undefined> {
  let why = { qemuClass: 'CommandNotFound', desc: 'QEMU has no flush that reports errors' };
  for (const { command, flushed } of flushesOf(node)) {
    try {
      await machine.execute(command);
      return notFlushed(path, 'GenericError', `QEMU did ${command.execute}, which it should have refused`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (flushed.test(error.desc)) return undefined;
      if (error.qemuClass === 'CommandNotFound') continue;
      if (mayBeGone && isNoSuchNode(error)) return undefined;
      why = { qemuClass: error.qemuClass, desc: error.desc };
      break;
    }
  }
  return notFlushed(path, why.qemuClass, why.desc);
}

/** Why the header must not change: it would lose data. The old images are kept then. */
async function lossOf(accepted: Job['accepted'], machine: Opens): Promise<Failure | undefined> {
  // Under the names of the new images the disk would not be found.
  return (await movedAway(accepted.named ?? [], machine)) ?? (await snapshotsCut(accepted));
}

/** A pull removes the images below its image, and with them data of a snapshot that was taken since the start. */
async function snapshotsCut({ kind, source, losses, unused }: Job['accepted']): Promise<Failure | undefined> {
  const cuts = kind === 'PULL' && unused.afterSuccess.length > 0 && source.format === 'qcow2';
  if (!cuts || losesSnapshots(losses) || !(await hasSnapshots(source.path).catch(() => false))) return undefined;
  return failure('LOSS_NOT_ACCEPTED', {
    path: source.path,
    node: source.node,
    what: 'has internal snapshots, which were taken while the job ran',
    why: 'they would lose the data that they have from the images below',
    wayOut: 'delete them, and pull again',
    accept: 'LOSES_INTERNAL_SNAPSHOTS',
  });
}
