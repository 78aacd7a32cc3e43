/**
 * What is left to do when QEMU has concluded a job and that is written down: dismiss it, then close what nobody uses
 * any more, each node before those it uses, then delete what the job may delete.
 */
import { isWithoutQemu } from '../conclusion.ts';
import { hasSucceeded, type Job } from '../job.ts';
import type { Concluded } from '../journal-entry.ts';
import type { Plan, Step } from './step.ts';
import { deleteNode } from './steps.ts';

export function planSettling(job: Job): Plan {
  const { accepted, concluded } = job;
  if (concluded === undefined) return [];
  const steps: Step[] = [];
  const success = hasSucceeded(job);
  if (!isWithoutQemu(concluded)) {
    // A stream or a commit holds its nodes until it is dismissed.
    steps.push({ name: 'dismiss-job', run: { do: 'end-qmp-job', qemuJob: accepted.job } });
    for (const node of success ? accepted.unused.afterSuccess : accepted.unused.otherwise) {
      // QEMU named this one itself: it goes away with what it belongs to, and nobody else may delete it.
      if (!node.startsWith('#')) steps.push({ name: `close-${node}`, run: deleteNode(node) });
    }
  }
  if (success && isProved(concluded) && accepted.options.deleteCommitted) {
    for (const image of accepted.committed) {
      steps.push({ name: `delete-${image.path}`, run: { do: 'delete-image', image } });
    }
  }
  if (accepted.kind === 'COPY' && accepted.destination !== undefined && isRubbish(job)) {
    const { path } = accepted.destination;
    steps.push({
      name: 'remove-destination',
      run: { do: 'remove-file', path, madeBy: 'create-destination' },
    });
  }
  return steps;
}

/** Seen by us, and without error: enough to delete what somebody wants deleted. */
function isProved({ how, qemuError }: Concluded): boolean {
  return how === 'CONCLUDED' && qemuError === undefined;
}

/** A destination that never became a copy, proved by QEMU's own result and by where the guest's device is. */
function isRubbish(job: Job): boolean {
  const { concluded } = job;
  return (
    job.readyTime === undefined &&
    job.accepted.plan.some(({ run }) => run.do === 'create-file') &&
    concluded?.how === 'CONCLUDED' &&
    concluded.qemuError !== undefined &&
    concluded.deviceOn === 'SOURCE'
  );
}
