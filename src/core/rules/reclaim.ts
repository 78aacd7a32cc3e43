/** The rules of Reclaim that need nothing but the request. */
import type { ReclaimRequest } from '../requests.ts';
import { invalid, requestIdRules, throwIfAny } from './rule.ts';

const MOST = 500;
const LEFTOVER_ID = /^(file|node|job):bj[0-9a-f]{16}/;

/** Throws all that is wrong with the request, at once. */
export function checkReclaim({ ids, requestId }: ReclaimRequest): void {
  throwIfAny([
    ...(ids.length < 1 || ids.length > MOST ? [invalid('leftover_ids', `must be 1 to ${MOST}`)] : []),
    ...(ids.every((id) => LEFTOVER_ID.test(id))
      ? []
      : [invalid('leftover_ids', 'holds what is no Leftover.id; ListLeftovers gives them')]),
    ...requestIdRules({ requestId }),
  ]);
}
