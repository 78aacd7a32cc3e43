/** When a copy was last seen to follow its guest. */
import type { JournalEntry } from './journal-entry.ts';

export interface LastFollowed {
  /** READY, and not ended: the copy has all writes until then. */
  readonly followed: { readonly at: string; readonly revision: number } | undefined;
  /** Whether that was seen after its end was requested. */
  readonly followedSinceAsked: boolean;
}

export const NOT_FOLLOWED: LastFollowed = { followed: undefined, followedSinceAsked: false };

export function followedAt(
  { seenAt, revision }: Extract<JournalEntry, { readonly seenAt: string }>,
  { intent }: { readonly intent?: object },
): LastFollowed {
  return { followed: { at: seenAt, revision }, followedSinceAsked: intent !== undefined };
}
