/** The rules of SetSpeed, Pause and Resume that need nothing but the request. */
import type { PauseRequest, SetSpeedRequest } from '../block-jobs.ts';
import { bandwidth, bandwidthOf, notYet, throwIfAny } from './rule.ts';

/** The limit in bytes a second. Throws when out of range. */
export function parseSetSpeed(request: SetSpeedRequest): number {
  throwIfAny([
    ...bandwidth('bandwidth_bytes_per_second', request.bandwidthBytesPerSecond),
    ...notYet('request_id', request.requestId !== '', 'request ids'),
  ]);
  return bandwidthOf(request.bandwidthBytesPerSecond);
}

export function checkPause(request: PauseRequest): void {
  throwIfAny(notYet('request_id', request.requestId !== '', 'request ids'));
}
