/** QEMU's run state in our words. Source: qapi/run-state.json, RunState. */
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

/** Undefined for a state that is newer than this. */
export function guestStateOf(runState: string): GuestState | undefined {
  return GUEST_STATES[runState];
}

/**
 * QEMU runs its CPUs, or would at the next event: `stop` is to be followed by `cont`. One that sleeps (ACPI S3) is
 * `suspended`: since QEMU 9.0 `stop` and `cont` leave it as it was, before that they do nothing to it.
 */
export function isLive(runState: string): boolean {
  return runState === 'running' || runState === 'suspended';
}

/** A guest that our own `stop` holds is in one of these: one that is reset meanwhile is in the second. */
export function isStoppedByStop(runState: string): boolean {
  return runState === 'paused' || runState === 'prelaunch';
}
