/** Jobs in a QEMU that other clients of that QEMU have started. This service shows them and does not change them. */
import type { BlockGraph } from './disk/chain.ts';
import type { QemuJob } from './qemu/replies.ts';

/** In QEMU's own words. */
export interface ForeignJob extends QemuJob {
  readonly host: string;
  readonly domain: string;
  readonly domainUuid: string | undefined;
  /** Undefined if it is not known. */
  readonly disk: string | undefined;
  /** Whether libvirt manages the VM. */
  readonly isOfLibvirt: boolean;
}

export interface ForeignJobs {
  readonly foreignJobs: readonly ForeignJob[];
  /** The domains whose QEMU did not answer. */
  readonly unreachableDomains: readonly string[];
}

export const NO_FOREIGN_JOBS: ForeignJobs = { foreignJobs: [], unreachableDomains: [] };

/** The foreign jobs of several places, in the order of the contract. */
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

/** The foreign jobs of the domains that the caller may read. */
export function readable(
  { foreignJobs, unreachableDomains }: ForeignJobs,
  mayRead: (domain: string) => boolean,
): ForeignJobs {
  return {
    foreignJobs: foreignJobs.filter(({ domain }) => mayRead(domain)),
    unreachableDomains: unreachableDomains.filter(mayRead),
  };
}

/** The only disk whose images a job uses. A backup from one disk into an image of another one belongs to no single disk. */
export function diskOfJob({ disks }: Pick<BlockGraph, 'disks'>, job: string): string | undefined {
  const [disk, another] = disks.filter(({ blockJobs }) => blockJobs.includes(job));
  return another === undefined ? disk?.id : undefined;
}
