/** Steps that several plans share. */

import type { Action, Step } from '../job/step.ts';
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
