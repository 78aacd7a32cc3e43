/**
 * A shallow copy into a destination that is there writes what the active image holds, and no more: all else the guest reads
 * from what was there before. How is it known that this is what the image below the active one shows?
 */
import type { Accepted } from './journal-entry.ts';

export type ReusedBy =
  /** The destination held nothing of its own, and is over that very image. */
  | 'SAME_FILE'
  /** On the caller's word alone. */
  | 'WORD';

export interface Reused {
  readonly by: ReusedBy;
  /** The destination. */
  readonly path: string;
  /** What it has to show: the image below the active one. */
  readonly backing: string;
}

/** What makes a destination, so that nothing in it is from before. */
const MAKES: ReadonlySet<string> = new Set(['create-destination', 'format-destination']);

/** Why the copy is right only if the caller is; undefined: it is so in any case. */
export function restsOnWord({ kind, reused, recovered, plan, options }: Accepted): string | undefined {
  if (kind !== 'COPY') return undefined;
  if (reused !== undefined) return reused.by === 'WORD' ? onWord(reused) : undefined;
  if (recovered === true)
    return 'whether the copy takes something over from what was at its destination only the lost journal knew';
  // An older service did not write it down.
  const isTop = plan.some(
    ({ run }) => run.do === 'qmp' && run.command.execute === 'blockdev-mirror' && run.command.arguments.sync === 'top',
  );
  const isReused = options.reuseExternal && !plan.some(({ name }) => MAKES.has(name));
  return isTop && isReused
    ? 'what is below the active image was there at the destination before: that it is the same, the caller said'
    : undefined;
}

function onWord({ path, backing }: Reused): string {
  return `that ${path} showed what ${backing} shows, before the copy began, is the caller's word: it was not compared`;
}

/** As a finding; undefined: nothing was taken over. */
export function reusedInWords(accepted: Accepted): string | undefined {
  const { reused } = accepted;
  return reused?.by === 'SAME_FILE'
    ? `${reused.path} held nothing of its own before the copy began, and its backing file is ${reused.backing} itself`
    : restsOnWord(accepted);
}
