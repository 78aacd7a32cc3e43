/** Jobs of QEMU that a step of ours has begun: waits for them, and ends them. */
import type { QemuJob } from '../../core/qemu/replies.ts';
import { Refused } from '../../qmp/errors.ts';
import type { VirtualMachine } from './virtual-machine.ts';

const LOOK_AGAIN_MS = 1000;

/** Cancels the job if it still runs, waits for its end, and dismisses it. A job that does not exist has ended. */
export async function endJob(machine: VirtualMachine, id: string): Promise<void> {
  const first = (await machine.jobs()).find((job) => job.id === id);
  if (first === undefined) return;
  if (first.status !== 'concluded') {
    await ignoringLateness(machine, 'job-cancel', id);
    if ((await untilConcluded(machine, id)) === undefined) return;
  }
  await ignoringLateness(machine, 'job-dismiss', id);
}

/** Looks again at each event, and regularly: a hanging QEMU sends none. Undefined if another client dismissed it. */
export async function untilConcluded(machine: VirtualMachine, id: string): Promise<QemuJob | undefined> {
  for (;;) {
    const before = machine.wake.now;
    const job = (await machine.jobs()).find((one) => one.id === id);
    if (job === undefined || job.status === 'concluded') return job;
    await machine.wake.after(before, { timeoutMs: LOOK_AGAIN_MS });
  }
}

/** The job may end, or be dismissed by another client, between the look and the command. */
export async function ignoringLateness(
  machine: VirtualMachine,
  execute: 'job-cancel' | 'job-dismiss',
  id: string,
): Promise<void> {
  try {
    await machine.execute({ execute, arguments: { id } });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
}
