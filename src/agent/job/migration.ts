/**
 * A guest that migrates to another QEMU. That QEMU has opened the old images, and continues with them: a pivot here
 * would be lost, whatever this QEMU says about the job.
 */
import { fail } from '../../core/errors.ts';
import { migrationOf } from '../../core/qemu/guest-state.ts';
import { readMigrationStatus, readRunState } from '../../core/qemu/replies.ts';
import { inTime } from '../../lib/timer.ts';
import type { JobLog } from '../journal/job-log.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

export interface Guest {
  /** QEMU's word for its state (query-status). */
  readonly runState: string;
  /** QEMU's word if the guest is between two QEMUs; undefined if it is here and stays. */
  readonly migration: string | undefined;
}

export async function guestOf(machine: VirtualMachine): Promise<Guest> {
  const [status, migrate] = await Promise.all([
    machine.execute({ execute: 'query-status' }),
    machine.execute({ execute: 'query-migrate' }),
  ]);
  const runState = readRunState(status);
  return { runState, migration: migrationOf(runState, readMigrationStatus(migrate)) };
}

/** Throws GUEST_MIGRATING. */
export async function refuseMigrating(machine: VirtualMachine): Promise<void> {
  refuseMigratingGuest(machine, await guestOf(machine));
}

/** Throws GUEST_MIGRATING if QEMU answers at once. It is asked again, and waited for, right before the pivot. */
export async function refuseMigratingPivot({ job, ended }: JobLog, machines: VirtualMachines): Promise<void> {
  const machine = ended ? undefined : machines.of(job.accepted);
  if (machine !== undefined) refuseMigratingGuest(machine, await inTime(guestOf(machine), QEMU_ANSWERS_MS));
}

/** The same, for an answer of QEMU. */
export function refuseMigratingGuest({ name: domain }: VirtualMachine, guest: Guest | undefined): void {
  if (guest?.migration !== undefined) fail('GUEST_MIGRATING', { domain, status: guest.migration });
}
