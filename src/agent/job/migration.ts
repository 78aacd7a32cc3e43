/**
 * A guest that goes to another QEMU. That one has opened its images as they were, and goes on with those: a pivot here
 * would be lost to it, whatever this QEMU says of the job.
 */
import { fail } from '../../core/errors.ts';
import { migrationOf } from '../../core/qemu/migration.ts';
import { readMigrationStatus, readRunState } from '../../core/qemu/replies.ts';
import { inTime } from '../../lib/in-time.ts';
import type { JobLog } from '../journal/job-log.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

export interface Guest {
  /** QEMU's word for what it does (query-status). */
  readonly runState: string;
  /** QEMU's word for it, if the guest is between two QEMUs; undefined: it is here, and stays. */
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
  refuse(machine, await guestOf(machine));
}

/** Throws GUEST_MIGRATING where QEMU says so at once. It is asked again, and waited for, right before the pivot. */
export async function refuseMigratingPivot({ job, ended }: JobLog, machines: VirtualMachines): Promise<void> {
  const machine = ended ? undefined : machines.of(job.accepted);
  if (machine !== undefined) refuse(machine, await inTime(guestOf(machine), QEMU_ANSWERS_MS));
}

function refuse({ name: domain }: VirtualMachine, guest: Guest | undefined): void {
  if (guest?.migration !== undefined) fail('GUEST_MIGRATING', { domain, status: guest.migration });
}
