/** The rules of SetSpeed, Pause and Resume that need only the request. */
import type { PauseRequest, SetSpeedRequest } from '../requests.ts';
import { bandwidth, bandwidthOf, requestIdRules, throwIfAny } from './rule.ts';

/** The limit in bytes per second. Throws if it is out of range. */
export function parseSetSpeed(request: SetSpeedRequest): number {
  throwIfAny([...bandwidth('bandwidth_bytes_per_second', request.bandwidthBytesPerSecond), ...requestIdRules(request)]);
  return bandwidthOf(request.bandwidthBytesPerSecond);
}

export function checkPause(request: PauseRequest): void {
  throwIfAny(requestIdRules(request));
}
