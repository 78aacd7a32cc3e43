/** The rules of Reclaim that need only the request. */
import type { ReclaimRequest } from '../requests.ts';
import { invalid, requestIdRules, throwIfAny } from './rule.ts';

const MOST = 500;
const LEFTOVER_ID = /^(file|node|job):bj[0-9a-f]{16}/;

/** Throws all violations of the request together. */
export function checkReclaim({ ids, requestId }: ReclaimRequest): void {
  throwIfAny([
    ...(ids.length < 1 || ids.length > MOST ? [invalid('leftover_ids', `must be 1 to ${MOST}`)] : []),
    ...(ids.every((id) => LEFTOVER_ID.test(id))
      ? []
      : [invalid('leftover_ids', 'holds a text that is not a Leftover.id; ListLeftovers returns them')]),
    ...requestIdRules({ requestId }),
  ]);
}
