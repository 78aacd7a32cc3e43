/** May an operation do with a disk's images what it would do? The table says it (kinds.ts). */
import { BlockJobError, failure } from '../errors.ts';
import { KINDS, type Kind, type KindName } from './kinds.ts';
import type { Operation, Role, Uses } from './uses.ts';

const IN_WORDS: Readonly<Record<Role, string>> = {
  READ: 'be read into another one',
  FILLED: 'take the data of others',
  RELINKED: 'get another backing file',
  NAMED: 'be named as a backing file, or to start from',
  LEFT: 'be left',
  DELETED: 'be deleted',
};

/** What asks for less. */
const WAY_OUT: Readonly<Record<Operation, string>> = {
  COPY: 'copy the whole chain instead (without shallow), or to a destination that is there with a chain of its own',
  PULL: 'pull without a base, or down to another one; or copy the disk',
  COMMIT: 'commit other images of the chain, without their deletion; or copy the disk',
};

/** Throws for the first image that is refused in one of its roles. */
export function refuseUnfit({ operation, uses }: Uses): void {
  for (const { image, roles } of uses) {
    for (const [kind, { of, fates }] of Object.entries(KINDS) as [KindName, Kind][]) {
      const what = of(image);
      if (what === undefined) continue;
      for (const role of roles) {
        const fate = fates[role];
        if (fate.is !== 'REFUSED') continue;
        const { path, node } = image;
        const words = { path, node, what, use: IN_WORDS[role], why: fate.why, wayOut: WAY_OUT[operation] };
        throw new BlockJobError(failure('IMAGE_UNSUITABLE', words, { kind }));
      }
    }
  }
}
