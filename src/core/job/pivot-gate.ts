/**
 * The gate of a pivot. Another program may keep the configuration of the VM. Then the guest does not move before that
 * program has recorded the path of the next start: otherwise a VM that stops after the pivot starts on the old image.
 */
import { type Failure, failure } from '../errors.ts';
import type { Accepted, Concluded, EntryBody, JournalEntry } from './journal-entry.ts';

export interface PivotGate {
  /** Each gate has another one, so that a record of an earlier attempt does not open this one. */
  readonly token: string;
  /** RFC 3339. */
  readonly openTime: string;
  /** When the record was written down; undefined if the pivot still needs it. */
  readonly recordTime?: string;
}

/** The part of a job that decides about its pivot. */
interface MayPivot {
  readonly accepted: Accepted;
  readonly gate?: PivotGate | undefined;
  readonly pivotRequested: boolean;
  readonly concluded: Concluded | undefined;
}

/** Whether a pivot of this job needs a record. */
export function isGated({ accepted }: Pick<MayPivot, 'accepted'>): boolean {
  return accepted.options.configOwner === 'EXTERNAL' && accepted.destination !== undefined;
}

/** Whether the guest may move now; `token`: the record that comes with the request. */
export function mayPivot(job: MayPivot, token?: string): boolean {
  return !isGated(job) || job.gate?.recordTime !== undefined || (job.gate !== undefined && job.gate.token === token);
}

/** Whether this entry fits the gate. No pivot is written down without its record, and none is carried out otherwise. */
export function gateAllows(job: MayPivot, entry: EntryBody): boolean {
  switch (entry.entry) {
    case 'gate-opened':
      return job.concluded === undefined && isGated(job) && job.gate === undefined;
    case 'config-recorded':
      return job.concluded === undefined && !mayPivot(job) && mayPivot(job, entry.token);
    case 'pivot-requested':
      return refusedPivot(job, entry.token) === undefined;
    default:
      return true;
  }
}

export function gateAfter({ gate }: Pick<MayPivot, 'gate'>, entry: JournalEntry): PivotGate | undefined {
  switch (entry.entry) {
    case 'gate-opened':
      return { token: entry.token, openTime: entry.time };
    // A request for a pivot has the record with it, unless it was written down before.
    case 'config-recorded':
    case 'pivot-requested':
      return gate && { recordTime: entry.time, ...gate };
    default:
      return gate;
  }
}

/** The reason against a pivot with this record, or without one. */
export function refusedPivot(job: MayPivot, token: string | undefined): Failure | undefined {
  const { accepted, gate } = job;
  if (token !== undefined && token !== gate?.token) return failure('CONFIG_RECORD_STALE', { job: accepted.job, token });
  if (mayPivot(job, token)) return undefined;
  const path = accepted.destination?.path ?? '';
  return failure('CONFIG_NOT_RECORDED', { job: accepted.job, token: gate?.token ?? '', path });
}

/**
 * The path to which the configuration must be set back at the end. Its owner may have recorded the new path as soon as
 * the gate was open. Undefined if the configuration is right, or if the image of the guest is not known.
 */
export function setConfigBackTo(
  { accepted, gate, pivotRequested }: MayPivot,
  concluded: Concluded,
): string | undefined {
  const { source, destination } = accepted;
  const { how, qemuError, deviceOn, devicePath } = concluded;
  if (gate === undefined || deviceOn === 'DESTINATION') return undefined;
  const mayHaveMoved = how === 'GIVEN_UP' || (pivotRequested && qemuError === undefined);
  // If no device is left to look at, the guest was last on the source.
  const path = deviceOn === 'NOWHERE' && !mayHaveMoved ? source.path : devicePath;
  return path === destination?.path ? undefined : path;
}
