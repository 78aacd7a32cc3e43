/** What an operation does with each image of a disk's chain. */
import type { Image } from '../chain.ts';

export type Operation = 'COPY' | 'PULL' | 'COMMIT';

export type Role =
  /** Its contents go into another image. */
  | 'READ'
  /** It takes the contents of others, and stays. */
  | 'FILLED'
  /** Its header gets another backing file. */
  | 'RELINKED'
  /** Its name is written into a header, or is told as that of the image which the guest goes on with. */
  | 'NAMED'
  /** The guest leaves it, and it may be called safe to delete. */
  | 'LEFT'
  /** It is deleted. */
  | 'DELETED';

export interface Use {
  readonly image: Image;
  readonly roles: ReadonlySet<Role>;
}

export interface Uses {
  readonly operation: Operation;
  /** The chain from the top down. */
  readonly uses: readonly Use[];
}

export function copyUses(chain: readonly Image[], to: { readonly topOnly: boolean; readonly isNamed: boolean }): Uses {
  const uses = chain.map((image, at) => {
    if (at === 0) return use(image, 'READ', 'LEFT');
    if (!to.topOnly) return use(image, 'READ');
    return at === 1 && to.isNamed ? use(image, 'NAMED') : use(image);
  });
  return { operation: 'COPY', uses };
}

/** `baseAt`: undefined for none. */
export function pullUses(chain: readonly Image[], baseAt: number | undefined): Uses {
  const uses = chain.map((image, at) => {
    if (at === 0) return use(image, 'FILLED', 'RELINKED');
    if (at === baseAt) return use(image, 'NAMED');
    return baseAt === undefined || at < baseAt ? use(image, 'READ') : use(image);
  });
  return { operation: 'PULL', uses };
}

export function commitUses(
  chain: readonly Image[],
  { topAt, baseAt, deletes }: { readonly topAt: number; readonly baseAt: number; readonly deletes: boolean },
): Uses {
  const uses = chain.map((image, at) => {
    if (at === topAt - 1) return use(image, 'RELINKED');
    if (at >= topAt && at < baseAt) return use(image, 'READ', 'LEFT', ...(deletes ? (['DELETED'] as const) : []));
    return at === baseAt ? use(image, 'FILLED', 'NAMED') : use(image);
  });
  return { operation: 'COMMIT', uses };
}

function use(image: Image, ...roles: readonly Role[]): Use {
  return { image, roles: new Set(roles) };
}
