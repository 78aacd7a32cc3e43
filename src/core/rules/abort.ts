/** The rules of Abort that need nothing but the request. */
import type { AbortRequest } from '../block-jobs.ts';
import { violation } from '../errors.ts';
import { invalid, known, notYet, throwIfAny } from './rule.ts';

/** Throws all that is wrong with the request, at once. */
export function checkAbort(request: AbortRequest): void {
  throwIfAny([
    ...known('pause_guest', request.pauseGuest),
    ...(request.pivot && request.force
      ? [violation('force', 'FLAGS_EXCLUSIVE', { first: 'pivot', second: 'force' })]
      : []),
    ...(!request.pivot && request.pauseGuest !== undefined
      ? [invalid('pause_guest', 'is for a pivot only: set pivot, or leave it out')]
      : []),
    ...notYet('request_id', request.requestId !== '', 'request ids'),
  ]);
}
