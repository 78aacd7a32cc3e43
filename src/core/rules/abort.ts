/** The rules of Abort that need nothing but the request. */

import { violation } from '../errors.ts';
import type { AbortRequest } from '../requests.ts';
import { enumKnown, requestIdRules, throwIfAny } from './rule.ts';

/** Throws all that is wrong with the request, at once. */
export function checkAbort(request: AbortRequest): void {
  throwIfAny([
    ...enumKnown('pause_guest', request.pauseGuest),
    ...(request.pivot && request.force
      ? [violation('force', 'FLAGS_EXCLUSIVE', { first: 'pivot', second: 'force' })]
      : []),
    ...requestIdRules(request),
  ]);
}
