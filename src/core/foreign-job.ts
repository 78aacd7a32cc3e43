/** Jobs that a QEMU has and that other clients of it have begun: shown, and left to them. */
import type { BlockGraph } from './disk/chain.ts';
import type { QemuJob } from './qemu/replies.ts';

/** In QEMU's own words. */
export interface ForeignJob extends QemuJob {
  readonly host: string;
  readonly domain: string;
  readonly domainUuid: string | undefined;
  /** Undefined where it cannot be told. */
  readonly disk: string | undefined;
  /** The VM is libvirt's. */
  readonly isOfLibvirt: boolean;
}

export interface ForeignJobs {
  readonly foreignJobs: readonly ForeignJob[];
  /** Those whose QEMU did not say. */
  readonly unreachableDomains: readonly string[];
}

export const NO_FOREIGN_JOBS: ForeignJobs = { foreignJobs: [], unreachableDomains: [] };

/** Those of several places, in the order of the contract. */
export function together(all: readonly ForeignJobs[]): ForeignJobs {
  return {
    foreignJobs: all
      .flatMap(({ foreignJobs }) => foreignJobs)
      .toSorted((a, b) => (place(a) < place(b) ? -1 : Number(place(a) > place(b)))),
    unreachableDomains: [...new Set(all.flatMap(({ unreachableDomains }) => unreachableDomains))].toSorted(),
  };
}

function place({ host, domain, id }: ForeignJob): string {
  return `${host}\n${domain}\n${id}`;
}

/** Those of domains that somebody may read. */
export function readable(
  { foreignJobs, unreachableDomains }: ForeignJobs,
  mayRead: (domain: string) => boolean,
): ForeignJobs {
  return {
    foreignJobs: foreignJobs.filter(({ domain }) => mayRead(domain)),
    unreachableDomains: unreachableDomains.filter(mayRead),
  };
}

/** The only disk of which a job uses images: a backup from one disk into another one's image is on no disk alone. */
export function diskOfJob({ disks }: Pick<BlockGraph, 'disks'>, job: string): string | undefined {
  const [disk, another] = disks.filter(({ blockJobs }) => blockJobs.includes(job));
  return another === undefined ? disk?.id : undefined;
}
