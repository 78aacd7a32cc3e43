/** Whether a guest is between two QEMUs. Sources: qapi/migration.json, MigrationStatus; qapi/run-state.json, RunState. */
import { guestStateOf } from './guest-state.ts';

/** All other statuses, newer ones included, belong to a migration in progress. */
const AT_REST: ReadonlySet<string> = new Set(['none', 'completed', 'failed', 'cancelled']);

/** QEMU's word if the guest is leaving this QEMU, has left it, or has not arrived. Undefined if the guest stays here. */
export function migrationOf(runState: string, status: string | undefined): string | undefined {
  if (guestStateOf(runState) === 'MIGRATING') return runState;
  return status === undefined || AT_REST.has(status) ? undefined : status;
}
