/** The rules of the calls that change something, except of the starts, that need only the request. */

import { type Violation, violation } from '../errors.ts';
import type { AbortRequest, PauseRequest, ReclaimRequest, SetSpeedRequest } from '../requests.ts';
import { bandwidth, bandwidthOf, enumKnown, invalid, requestIdRules, throwIfAny } from './rule.ts';

/** The limit in bytes per second. Throws if it is out of range. */
export function parseSetSpeed(request: SetSpeedRequest): number {
  throwIfAny([...bandwidth('bandwidth_bytes_per_second', request.bandwidthBytesPerSecond), ...requestIdRules(request)]);
  return bandwidthOf(request.bandwidthBytesPerSecond);
}

export function checkPause(request: PauseRequest): void {
  throwIfAny(requestIdRules(request));
}

/** Throws all violations of the request together. */
export function checkAbort(request: AbortRequest): void {
  throwIfAny([
    ...enumKnown('pause_guest', request.pauseGuest),
    ...(request.pivot && request.force
      ? [violation('force', 'FLAGS_EXCLUSIVE', { first: 'pivot', second: 'force' })]
      : []),
    ...recordRules(request),
    ...requestIdRules(request),
  ]);
}

function recordRules({ record, recordOnly, pivot }: AbortRequest): Violation[] {
  return [
    ...(record !== undefined && !pivot ? [invalid('record', 'is for a pivot: set pivot, or leave it out')] : []),
    ...(record !== undefined && !/^[\x21-\x7e]{1,64}$/.test(record.token)
      ? [invalid('record.token', 'is not the token of a gate; Job.pivot_gate has it')]
      : []),
    ...(recordOnly === true && record === undefined ? [invalid('record_only', 'needs the record')] : []),
  ];
}

const MOST_LEFTOVERS = 500;
const LEFTOVER_ID = /^(file|node|job|throttle):bj[0-9a-f]{16}/;

/** Throws all violations of the request together. */
export function checkReclaim({ ids, requestId }: ReclaimRequest): void {
  throwIfAny([
    ...(ids.length < 1 || ids.length > MOST_LEFTOVERS
      ? [invalid('leftover_ids', `must be 1 to ${MOST_LEFTOVERS}`)]
      : []),
    ...(ids.every((id) => LEFTOVER_ID.test(id))
      ? []
      : [invalid('leftover_ids', 'holds a text that is not a Leftover.id; ListLeftovers returns them')]),
    ...requestIdRules({ requestId }),
  ]);
}
