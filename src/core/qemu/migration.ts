/** Whether a guest is between two QEMUs. Sources: qapi/migration.json, MigrationStatus; qapi/run-state.json, RunState. */
import { guestStateOf } from './guest-state.ts';

/** All others, those that are newer than this too, are of a migration under way. */
const AT_REST: ReadonlySet<string> = new Set(['none', 'completed', 'failed', 'cancelled']);

/** QEMU's own word for it: the guest leaves this QEMU, has left it, or has not arrived. Undefined: it is here, and stays. */
export function migrationOf(runState: string, status: string | undefined): string | undefined {
  if (guestStateOf(runState) === 'MIGRATING') return runState;
  return status === undefined || AT_REST.has(status) ? undefined : status;
}
