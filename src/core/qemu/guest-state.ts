/** The guest state for QEMU's run state. Source: qapi/run-state.json, RunState. */
import type { GuestState } from '../block-jobs.ts';

const GUEST_STATES: Readonly<Record<string, GuestState>> = {
  running: 'RUNNING',
  paused: 'PAUSED',
  prelaunch: 'PAUSED',
  debug: 'PAUSED',
  suspended: 'PAUSED',
  'save-vm': 'PAUSED',
  'restore-vm': 'PAUSED',
  watchdog: 'PAUSED',
  'io-error': 'IO_ERROR',
  inmigrate: 'MIGRATING',
  postmigrate: 'MIGRATING',
  'finish-migrate': 'MIGRATING',
  colo: 'MIGRATING',
  shutdown: 'SHUT_OFF',
  'guest-panicked': 'SHUT_OFF',
  'internal-error': 'SHUT_OFF',
};

/** Undefined for a newer run state. */
export function guestStateOf(runState: string): GuestState | undefined {
  return GUEST_STATES[runState];
}

/**
 * Whether QEMU runs its CPUs, or would at the next event, so that `stop` needs a `cont` later. A sleeping guest (ACPI
 * S3) is `suspended`: since QEMU 9.0 `stop` and `cont` keep that state, before that they do nothing to it.
 */
export function isLive(runState: string): boolean {
  return runState === 'running' || runState === 'suspended';
}

/** The states of a guest that our own `stop` holds; the second one is after a reset meanwhile. */
export function isStoppedByStop(runState: string): boolean {
  return runState === 'paused' || runState === 'prelaunch';
}

/** All other statuses, newer ones included, belong to a migration in progress. */
const AT_REST: ReadonlySet<string> = new Set(['none', 'completed', 'failed', 'cancelled']);

/** QEMU's word if the guest is leaving this QEMU, has left it, or has not arrived. Undefined if the guest stays here. */
export function migrationOf(runState: string, status: string | undefined): string | undefined {
  if (guestStateOf(runState) === 'MIGRATING') return runState;
  return status === undefined || AT_REST.has(status) ? undefined : status;
}
