/** Whether an operation may treat the images of a disk as it plans to, by the table in kinds.ts. */
import { BlockJobError, fail, failure } from '../errors.ts';
import type { Accept } from '../job-options.ts';
import { KINDS, type Kind, type KindName } from './kinds.ts';
import type { ChainOperation, Role, Uses } from './uses.ts';

/** A loss that the caller accepted. */
export interface Loss {
  readonly accept: Accept;
  readonly path: string;
  /** Continues a sentence that begins with the path. */
  readonly text: string;
}

const IN_WORDS: Readonly<Record<Role, string>> = {
  READ: 'be read into another image',
  FILLED: 'take the data of other images',
  RELINKED: 'get another backing file',
  CUT: 'be cut off from the images below it',
  NAMED: 'be named as a backing file, or as the image to start from',
  LEFT: 'be left by the guest',
  DELETED: 'be deleted',
};

/** Alternatives that need less. */
const WAY_OUT: Readonly<Record<ChainOperation, string>> = {
  COPY: 'give the disk an image of a supported kind',
  PULL: 'pull without a base, or down to another base; or copy the disk',
  COMMIT: 'commit other images of the chain, without deleting them; or copy the disk',
};

/** Only a shallow copy names another image of the chain. */
const NOT_SHALLOW =
  'copy the whole chain instead (without shallow), or copy to an existing destination that has its own chain';
/** Refused in each role, so that no other request would succeed. */
const KNOWN_ALONE = 'use only formats and node drivers that this service knows (docs/disks.md)';

const NOT_IN_THIS_QEMU = 'move the disk after the VM has been started again, or has migrated to another QEMU';

function wayOutOf(kind: KindName, role: Role, operation: ChainOperation): string {
  if (kind === 'UNKNOWN') return KNOWN_ALONE;
  if (kind === 'LOST_COUNT') return NOT_IN_THIS_QEMU;
  return operation === 'COPY' && role === 'NAMED' ? NOT_SHALLOW : WAY_OUT[operation];
}

/** For the journal and the options of the job. */
export function asAccepted(losses: readonly Loss[]): {
  readonly losses?: readonly Loss[];
  readonly accept: readonly Accept[];
} {
  const accept = [...new Set(losses.map((loss) => loss.accept))];
  return losses.length === 0 ? { accept } : { losses, accept };
}

/** Whether the caller accepted the loss of internal snapshots of this disk's images. */
export function losesSnapshots(losses: readonly Loss[] | undefined): boolean {
  return losses?.some(({ accept }) => accept === 'LOSES_INTERNAL_SNAPSHOTS') === true;
}

/** The accepted losses that happen. Throws for the first image that is refused in one of its roles. */
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
