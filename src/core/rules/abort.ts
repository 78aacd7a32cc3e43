/** The rules of Abort that need only the request. */

import { violation } from '../errors.ts';
import type { AbortRequest } from '../requests.ts';
import { enumKnown, requestIdRules, throwIfAny } from './rule.ts';

/** Throws all violations of the request together. */
export function checkAbort(request: AbortRequest): void {
  throwIfAny([
    ...enumKnown('pause_guest', request.pauseGuest),
    ...(request.pivot && request.force
      ? [violation('force', 'FLAGS_EXCLUSIVE', { first: 'pivot', second: 'force' })]
      : []),
    ...requestIdRules(request),
  ]);
}
