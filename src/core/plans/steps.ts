/** Steps that several plans share. */

import type { Action, Plan, Step } from '../job/step.ts';
import type { BlockdevOptions, QmpCommand } from '../qemu/commands.ts';

export function qmp(command: QmpCommand): Action {
  return { do: 'qmp', command };
}

export function addNode(name: string, options: BlockdevOptions): Step {
  return { name, run: qmp({ execute: 'blockdev-add', arguments: options }), undo: deleteNode(options['node-name']) };
}

export function deleteNode(node: string): Action {
  return qmp({ execute: 'blockdev-del', arguments: { 'node-name': node } });
}

/** The last step of a plan: QEMU has the job after it. */
export function startJob(name: string, job: string, command: QmpCommand): Step {
  return { name, run: qmp(command), undo: { do: 'end-qmp-job', qemuJob: job } };
}

/**
 * The steps of a plan in their order; those of a group are written down as started together. Undoing one that a crash
 * or a failure kept from beginning is harmless. These begin alone: the one that makes a file, because the made file is
 * recorded before QEMU gets its name; a comparison, because its begin says that it was interrupted; and the last one,
 * because QEMU may have the job once it has begun.
 */
export function startedTogether(plan: Plan): readonly Plan[] {
  const groups: Step[][] = [];
  for (const [at, step] of plan.entries()) {
    const group = groups.at(-1);
    const isAlone = at === plan.length - 1 || [step, group?.[0]].some((one) => one === undefined || beginsAlone(one));
    if (group === undefined || isAlone) groups.push([step]);
    else group.push(step);
  }
  return groups;
}

function beginsAlone({ run }: Step): boolean {
  return run.do === 'create-file' || run.do === 'compare';
}
