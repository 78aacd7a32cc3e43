/** May an operation do with a disk's images what it would do? The table says it (kinds.ts). */
import { BlockJobError, fail, failure } from '../errors.ts';
import type { Accept } from '../job-options.ts';
import { KINDS, type Kind, type KindName } from './kinds.ts';
import type { ChainOperation, Role, Uses } from './uses.ts';

/** What is lost, as was accepted. */
export interface Loss {
  readonly accept: Accept;
  readonly path: string;
  /** As a sentence goes on that begins with the path. */
  readonly text: string;
}

const IN_WORDS: Readonly<Record<Role, string>> = {
  READ: 'be read into another image',
  FILLED: 'take the data of others',
  RELINKED: 'get another backing file',
  CUT: 'be cut off from what is below it',
  NAMED: 'be named as a backing file, or to start from',
  LEFT: 'be left',
  DELETED: 'be deleted',
};

/** What asks for less. */
const WAY_OUT: Readonly<Record<ChainOperation, string>> = {
  COPY: 'give the disk an image of a kind that can',
  PULL: 'pull without a base, or down to another one; or copy the disk',
  COMMIT: 'commit other images of the chain, without their deletion; or copy the disk',
};

/** Only a shallow copy names another image of the chain. */
const NOT_SHALLOW =
  'copy the whole chain instead (without shallow), or to a destination that is there with a chain of its own';
/** Refused in each role, so that nothing that is asked for instead would do. */
const KNOWN_ALONE = 'give the disk images and nodes of drivers that are known here (docs/disks.md)';

function wayOutOf(kind: KindName, role: Role, operation: ChainOperation): string {
  if (kind === 'UNKNOWN') return KNOWN_ALONE;
  return operation === 'COPY' && role === 'NAMED' ? NOT_SHALLOW : WAY_OUT[operation];
}

/** For the job's journal and its options. */
export function asAccepted(losses: readonly Loss[]): {
  readonly losses?: readonly Loss[];
  readonly accept: readonly Accept[];
} {
  const accept = [...new Set(losses.map((loss) => loss.accept))];
  return losses.length === 0 ? { accept } : { losses, accept };
}

/** Internal snapshots of this disk's images may be lost: that was accepted. */
export function losesSnapshots(losses: readonly Loss[] | undefined): boolean {
  return losses?.some(({ accept }) => accept === 'LOSES_INTERNAL_SNAPSHOTS') === true;
}

/** What is lost of what was accepted. Throws for the first image that is refused in one of its roles. */
export function judge({ operation, uses, into }: Uses, accepted: ReadonlySet<Accept>): readonly Loss[] {
  const losses: Loss[] = [];
  for (const { image, roles, ...beside } of uses) {
    for (const [kind, { of, fates }] of Object.entries(KINDS) as [KindName, Kind][]) {
      const what = of(image, beside);
      if (what === undefined) continue;
      for (const role of roles) {
        const fate = fates[role];
        const { path, node } = image;
        if (fate.is === 'REFUSED') {
          const words = {
            path,
            node,
            what,
            use: IN_WORDS[role],
            why: fate.why,
            wayOut: wayOutOf(kind, role, operation),
          };
          throw new BlockJobError(failure('IMAGE_UNSUITABLE', words, { kind }));
        }
        if (fate.is !== 'LOST' || fate.unless?.(into) === true) continue;
        const { why, accept, wayOut } = fate;
        if (!accepted.has(accept)) fail('LOSS_NOT_ACCEPTED', { path, node, what, why, wayOut, accept });
        if (!losses.some((loss) => loss.accept === accept && loss.path === path)) {
          losses.push({ accept, path, text: `${what}: ${why}` });
        }
      }
    }
  }
  return losses;
}
