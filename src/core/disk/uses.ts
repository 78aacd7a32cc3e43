/** What an operation does with each image of a disk's chain. */
import type { Image } from './chain.ts';

export type ChainOperation = 'COPY' | 'PULL' | 'COMMIT';

export type Role =
  /** Its contents go into another image. */
  | 'READ'
  /** It takes the contents of others, and stays. */
  | 'FILLED'
  /** Its header gets another backing file. */
  | 'RELINKED'
  /** What is below it shows other contents afterwards, or nothing: what it held alone is in it. */
  | 'CUT'
  /** Its name is written into a header, or is told as that of the image which the guest goes on with. */
  | 'NAMED'
  /** The guest leaves it, and it may be called safe to delete. */
  | 'LEFT'
  /** It is deleted. */
  | 'DELETED';

/** What is not in the image itself, each as a sentence goes on that begins with it. */
export interface Beside {
  /** Who else may write to it. */
  readonly sharedBy?: string | undefined;
  /** Which image above it, that is taken away, hides a part of it. */
  readonly hiddenBy?: string | undefined;
  /** Why QEMU ends when the image is filled by a pull. */
  readonly endsQemu?: string | undefined;
}

export interface Use extends Beside {
  readonly image: Image;
  readonly roles: ReadonlySet<Role>;
}

/** What takes what is read. */
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

/** `baseAt`: undefined for none. `toSubclusters`: can this QEMU pull into parts of clusters? */
export function pullUses(
  chain: readonly Image[],
  { baseAt, toSubclusters }: { readonly baseAt: number | undefined; readonly toSubclusters: boolean },
): Uses {
  // Down to the image just below nothing is pulled.
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
 * Behind the end of a shorter image the guest sees zeroes, whatever is below; no longer so when that image is gone.
 * `over`: what is above those images, and shows no more than its own size; undefined: the guest is on the base then.
 */
function hiddenBy(base: Image, gone: readonly Image[], over: Image | undefined): string | undefined {
  const end = Math.min(base.virtualSizeBytes, over?.virtualSizeBytes ?? Infinity);
  const short = gone.find(({ virtualSizeBytes }) => virtualSizeBytes < end);
  return short && `is longer than ${short.path}, which is above it`;
}

function use(image: Image, ...roles: readonly Role[]): Use {
  return { image, roles: new Set(roles) };
}
