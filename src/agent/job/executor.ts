/** Carries out plans: the only place where a step of a plan becomes a QMP command or a file operation. */

import { BlockJobError, fail } from '../../core/errors.ts';
import type { Action, KnownFile, LetGo, MadeFile } from '../../core/job/step.ts';
import { createFile, deleteImage, isThere, removeFile, syncFile } from '../files/files.ts';
import { mustBeInPlace, proveFile } from '../files/prove-file.ts';
import { StableStorage } from '../files/stable-storage.ts';
import type { MadeIn } from '../host/pinned-folder.ts';
import { type Comparing, compare, endComparison } from '../qemu/compare.ts';
import { isNoSuchNode, qemuFailure } from '../qemu/failures.ts';
import type { Holders } from '../qemu/graphs.ts';
import { endJob, ignoringLateness, untilConcluded } from '../qemu/qemu-jobs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { Presence, Up } from './look.ts';

/** The facts about files that a step has found. */
export interface Done {
  /** The file that it made. */
  readonly made?: MadeFile;
  /** The file that QEMU has open. */
  readonly proved?: KnownFile;
}

export interface Workplace<Q extends Presence = Presence> {
  readonly domain: string;
  /** The written file, for messages. */
  readonly path: string;
  readonly qemu: Q;
  /** The file that this job made, if it made one. */
  readonly made: MadeFile | undefined;
  readonly madeIn: MadeIn;
  /** The process that has a file open now, by any name; undefined if no VM has. */
  readonly holder: () => Promise<Holders>;
  /** The callbacks of a comparison. Undefined if there is none. */
  readonly comparing?: (machine: VirtualMachine) => Comparing;
}

/** In a running QEMU. Rejects with Refused, OutcomeUnknown or NotSent, with the file system's error, or BlockJobError. */
export async function perform(action: Action, workplace: Workplace<Up>): Promise<Done> {
  const { qemu, made, domain, path, comparing } = workplace;
  const { machine } = qemu;
  switch (action.do) {
    case 'prove-file': {
      const proved = await proveFile(action, machine, action.file ?? made);
      return proved === undefined || action.isBacking === true ? {} : { proved };
    }
    case 'qmp':
      await machine.execute(action.command);
      return {};
    case 'qmp-job': {
      await machine.execute(action.command);
      const job = await untilConcluded(machine, action.qemuJob);
      await ignoringLateness(machine, 'job-dismiss', action.qemuJob);
      if (job?.error === undefined) return {};
      throw new BlockJobError(qemuFailure('GenericError', job.error, { domain, path, doing: action.command.execute }));
    }
    case 'compare':
      if (comparing === undefined) throw new Error('nobody drives the comparison');
      await compare(action.comparison, machine, comparing(machine));
      return {};
    case 'end-comparison':
      await endComparison(action.job, machine);
      return {};
    case 'end-qmp-job':
      await endJob(machine, action.qemuJob);
      return {};
    default:
      return await performOnFiles(action, workplace, machine);
  }
}

type FileAction = Extract<Action, { do: 'create-file' | 'remove-file' | 'sync-file' | 'delete-image' }>;

async function performOnFiles(
  action: FileAction,
  { made, madeIn, holder }: Workplace,
  machine: VirtualMachine | undefined,
): Promise<Done> {
  switch (action.do) {
    case 'create-file': {
      const { made: now, folder } = await createFile(action);
      await madeIn.keep(folder);
      return { made: now };
    }
    case 'remove-file':
      // It may have been made without being written down: a file that is not known as ours stays.
      if (made !== undefined) await removeFile(made, madeIn.folder);
      else if (await isThere(action.path)) fail('DESTINATION_EXISTS', { path: action.path });
      return {};
    case 'sync-file':
      await mustBeInPlace(action.files, machine);
      await syncFile(action.path);
      return {};
    case 'delete-image':
      if (action.letGo !== undefined) await mustBeLetGo(action.letGo, machine);
      await deleteImage(action, await holder());
      return {};
  }
}

/** Like perform, for an undo or a clean-up: an existing effect counts as done, and so does all in an ended QEMU. */
export async function performAgain(action: Action, workplace: Workplace): Promise<Done> {
  const { qemu } = workplace;
  if (qemu.is !== 'up') return isOfFiles(action) ? await performOnFiles(action, workplace, undefined) : {};
  try {
    return await perform(action, { ...workplace, qemu });
  } catch (error) {
    if (isNoSuchNode(error)) return {};
    throw error;
  }
}

function isOfFiles(action: Action): action is FileAction {
  return ['create-file', 'remove-file', 'sync-file', 'delete-image'].includes(action.do);
}

/** The header may have been changed, or lost, between the proof and the deletion. */
async function mustBeLetGo({ job, handover, named }: LetGo, machine: VirtualMachine | undefined): Promise<void> {
  await using storage = new StableStorage();
  const header = await storage.readBack(handover, named, machine);
  if (header.is === 'NEW') return;
  const why = header.is === 'OLD' ? `its header names ${header.backingFile || 'no image'}` : header.why;
  fail('NOT_ON_DISK', { job, path: handover.overlay.path, why });
}
