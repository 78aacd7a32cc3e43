/** Names of the contract's numbers for people: STATE_READY is READY. */
import {
  EndStep_Kind,
  GuestState,
  Job_State,
  JobKind,
  Leftover_Kind,
  PauseReason,
  ServerMode,
} from '../../client/index.ts';

function namesOf(values: Readonly<Record<string, number>>, prefix: string): (value: number) => string {
  const names = new Map(Object.entries(values).map(([name, value]) => [value, name.replace(`${prefix}_`, '')]));
  return (value) => names.get(value) ?? `${prefix} ${value}`;
}

export const stateName = namesOf(Job_State, 'STATE');
export const kindName = namesOf(JobKind, 'JOB_KIND');
export const pauseName = namesOf(PauseReason, 'PAUSE_REASON');
export const guestName = namesOf(GuestState, 'GUEST_STATE');
export const modeName = namesOf(ServerMode, 'SERVER_MODE');
export const stepName = namesOf(EndStep_Kind, 'KIND');
export const leftoverName = namesOf(Leftover_Kind, 'KIND');

/** As in virsh. */
const KINDS: Readonly<Record<string, string>> = {
  COPY: 'Block copy',
  PULL: 'Block pull',
  COMMIT: 'Block commit',
  ACTIVE_COMMIT: 'Active block commit',
};

export function kindInWords(kind: JobKind): string {
  return KINDS[kindName(kind)] ?? kindName(kind);
}
