/**
 * The clean-up after QEMU has concluded a job and that is recorded: sync the written images, dismiss the job, close the
 * nodes that nothing uses, each before those it uses, and delete the files that the job may delete. The clean-up
 * depends on the steps done so far, so this plan is made again after each step.
 */

import { losesSnapshots } from '../disk/judge.ts';
import { handoverOf } from '../job/handover-of.ts';
import type { ConcludedJob } from '../job/job.ts';
import { filesToFind, hasSucceeded, isUnsynced, isWithoutQemu } from '../job/job-facts.ts';
import type { AcceptedDestination } from '../job/journal-entry.ts';
import type { Plan, Step } from '../job/step.ts';
import { isStepOver, SYNC_STEP } from '../job/steps.ts';
import { deleteNode } from './steps.ts';

export function planSettling(job: ConcludedJob, { leavesQemu = false }: { readonly leavesQemu?: boolean } = {}): Plan {
  const { accepted, concluded } = job;
  const steps: Step[] = [];
  // QEMU has flushed it, and reported no error. Only the file system can say whether it reached the disk, too.
  if (isCopied(job)) {
    const { path } = job.accepted.destination;
    steps.push({ name: SYNC_STEP, run: { do: 'sync-file', path, files: filesToFind(job) } });
  }
  // QEMU may have the files open: nothing is deleted, and whatever QEMU keeps is a leftover.
  if (leavesQemu) return steps;
  if (!isWithoutQemu(concluded)) {
    // A stream or a commit holds its nodes until it is dismissed.
    steps.push({ name: 'dismiss-job', run: { do: 'end-qmp-job', qemuJob: accepted.job } });
    for (const node of isDone(job) ? accepted.unused.afterSuccess : accepted.unused.otherwise) {
      // QEMU named this node itself: it disappears with its parent, and nobody else may delete it.
      if (!node.startsWith('#')) steps.push({ name: `close-${node}`, run: deleteNode(node) });
    }
  }
  if (hasSucceeded(job) && isProved(job) && !isUnsynced(job) && accepted.options.deleteCommitted) {
    const handover = handoverOf(accepted);
    const letGo = handover === undefined ? {} : { letGo: { job: accepted.job, handover, named: accepted.named ?? [] } };
    const loses = losesSnapshots(accepted.losses) ? ({ losesSnapshots: true } as const) : {};
    // From the top down, because an image that stays needs those below it.
    for (const image of accepted.committed) {
      const name = `delete-${image.path}`;
      steps.push({ name, run: { do: 'delete-image', image, ...letGo, ...loses } });
      if (job.steps.get(name) === 'REFUSED') break;
    }
  }
  if (accepted.kind === 'COPY' && accepted.destination !== undefined && isRubbish(job)) {
    const { path } = accepted.destination;
    steps.push({ name: 'remove-destination', run: { do: 'remove-file', path, madeBy: 'create-destination' } });
  }
  return steps;
}

/**
 * The next steps that are written down as started together: those that the result of none of them changes. The deletion
 * of a file is decided by all results before it. Each step may be repeated, also one that a crash kept from beginning.
 */
export function nextTogether({ steps }: ConcludedJob, plan: Plan): Plan {
  const left = plan.filter(({ name }) => !isStepOver(steps.get(name)));
  const deletes = left.findIndex(({ run }) => run.do === 'delete-image' || run.do === 'remove-file');
  return left.slice(0, deletes === -1 ? undefined : Math.max(1, deletes));
}

/** Whether the destination, a file or a device of this host, should be a complete copy, or the guest is on it. */
function isCopied(job: ConcludedJob): job is ConcludedJob & { accepted: { destination: AcceptedDestination } } {
  const { how, qemuError, deviceOn } = job.concluded;
  const isHere = job.accepted.destination?.path.startsWith('/') === true;
  return isHere && qemuError === undefined && (how === 'CONCLUDED' || deviceOn === 'DESTINATION');
}

/**
 * Whether the job succeeded for QEMU: the nodes that it no longer uses can be closed, whatever is proved of the disk.
 * If another client has dismissed it, the header on disk shows its success.
 */
function isDone(job: ConcludedJob): boolean {
  return hasSucceeded(job) || (job.accepted.destination === undefined && isProved(job));
}

/** Whether success was seen, without an error: enough to delete files whose deletion was requested. */
function isProved({ concluded: { how, qemuError } }: ConcludedJob): boolean {
  return how === 'CONCLUDED' && qemuError === undefined;
}

/** Whether the destination never became a copy, by QEMU's own result and the position of the guest's device. */
function isRubbish({ accepted, ready, concluded }: ConcludedJob): boolean {
  return (
    ready === undefined &&
    accepted.plan.some(({ run }) => run.do === 'create-file') &&
    concluded.how === 'CONCLUDED' &&
    concluded.qemuError !== undefined &&
    concluded.deviceOn === 'SOURCE'
  );
}
