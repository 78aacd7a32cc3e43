/** The roles that an operation gives to each image of a disk's chain, and what becomes of it. */

import type { Accept } from '../job-options.ts';
import type { Image } from './chain.ts';

export type ChainOperation = 'COPY' | 'PULL' | 'COMMIT';

export type Role =
  /** Its contents go into another image. */
  | 'READ'
  /** It takes the contents of other images, and stays. */
  | 'FILLED'
  /** Its header gets another backing file. */
  | 'RELINKED'
  /** The images below it are replaced, or removed: its own data must suffice for its contents. */
  | 'CUT'
  /** Its name is written into a header, or reported as the name of the image on which the guest continues. */
  | 'NAMED'
  /** The guest leaves it, and it may be reported as safe to delete. */
  | 'LEFT'
  /** It is deleted. */
  | 'DELETED';

/** Facts that are not in the image itself. Each continues a sentence that begins with the image. */
export interface Beside {
  /** Another writer of the image. */
  readonly sharedBy?: string | undefined;
  /** An image above it that is removed and that hides a part of it. */
  readonly hiddenBy?: string | undefined;
  /** Why QEMU aborts when a pull fills the image. */
  readonly endsQemu?: string | undefined;
}

export interface Use extends Beside {
  readonly image: Image;
  readonly roles: ReadonlySet<Role>;
}

/** The image that takes the data. */
export type Into = Pick<Image, 'encrypted'> | undefined;

export interface Uses {
  readonly operation: ChainOperation;
  /** The chain from the top down. */
  readonly uses: readonly Use[];
  readonly into: Into;
}

export function copyUses(
  chain: readonly Image[],
  to: {
    readonly topOnly: boolean;
    readonly isNamed: boolean;
    readonly isEncrypted: boolean;
    readonly sharedBy: string | undefined;
  },
): Uses {
  const uses = chain.map((image, at): Use => {
    if (at === 0) return { ...use(image, 'READ', 'LEFT'), sharedBy: to.sharedBy };
    if (!to.topOnly) return use(image, 'READ');
    return at === 1 && to.isNamed ? use(image, 'NAMED') : use(image);
  });
  return { operation: 'COPY', uses, into: { encrypted: to.isEncrypted } };
}

/** `baseAt`: undefined for none. `toSubclusters`: whether this QEMU can pull into parts of clusters. */
export function pullUses(
  chain: readonly Image[],
  { baseAt, toSubclusters }: { readonly baseAt: number | undefined; readonly toSubclusters: boolean },
): Uses {
  // A pull down to the image just below it moves no data.
  const cuts = baseAt === 1 || chain.length === 1 ? [] : (['CUT'] as const);
  const uses = chain.map((image, at) => {
    if (at === 0) {
      const endsQemu = image.extendedL2 && cuts.length > 0 && !toSubclusters ? 'has extended L2 entries' : undefined;
      return { ...use(image, 'FILLED', 'RELINKED', ...cuts), endsQemu };
    }
    if (at === baseAt) return { ...use(image, 'NAMED'), hiddenBy: hiddenBy(image, chain.slice(1, at), chain[0]) };
    return baseAt === undefined || at < baseAt ? use(image, 'READ') : use(image);
  });
  return { operation: 'PULL', uses, into: chain[0] };
}

export function commitUses(
  chain: readonly Image[],
  what: {
    readonly topAt: number;
    readonly baseAt: number;
    readonly deletes: boolean;
    readonly sharedBy: string | undefined;
  },
): Uses {
  const { topAt, baseAt, deletes, sharedBy } = what;
  const uses = chain.map((image, at): Use => {
    if (at === topAt - 1) return use(image, 'RELINKED');
    if (at >= topAt && at < baseAt) {
      const left = use(image, 'READ', 'LEFT', ...(deletes ? (['DELETED'] as const) : []));
      return at === 0 ? { ...left, sharedBy } : left;
    }
    if (at !== baseAt) return use(image);
    const over = topAt === 0 ? undefined : chain[topAt - 1];
    return { ...use(image, 'FILLED', 'NAMED'), hiddenBy: hiddenBy(image, chain.slice(topAt, baseAt), over) };
  });
  return { operation: 'COMMIT', uses, into: chain[baseAt] };
}

/**
 * The guest sees zeroes behind the end of a shorter image, as long as that image is in the chain. `over`: the image
 * above the removed ones, which shows no more than its own size; undefined if the guest continues on the base.
 */
function hiddenBy(base: Image, gone: readonly Image[], over: Image | undefined): string | undefined {
  const end = Math.min(base.virtualSizeBytes, over?.virtualSizeBytes ?? Infinity);
  const short = gone.find(({ virtualSizeBytes }) => virtualSizeBytes < end);
  return short && `is longer than ${short.path}, which is above it`;
}

function use(image: Image, ...roles: readonly Role[]): Use {
  return { image, roles: new Set(roles) };
}

/** The possible fates of an image in its role. */
export type Fate =
  /** Its contents are in the result. */
  | { readonly is: 'CARRIED'; readonly note: string }
  /** It stays as it is. */
  | { readonly is: 'KEPT'; readonly note: string }
  /** `why`: the end of a sentence that begins with the image. */
  | { readonly is: 'REFUSED'; readonly why: string }
  /** Refused unless the caller accepts it. */
  | {
      readonly is: 'LOST';
      readonly why: string;
      readonly accept: Accept;
      readonly wayOut: string;
      /** Whether nothing is lost because this image takes the data. */
      readonly unless?: (into: Into) => boolean;
    };

export const carried = (note: string) => ({ is: 'CARRIED', note }) as const;
export const kept = (note: string) => ({ is: 'KEPT', note }) as const;
export const refused = (why: string) => ({ is: 'REFUSED', why }) as const;
