/** Prepares a pull: turns a valid request into a job that can begin. */
import { findDisk, type Image, onlyBelow } from '../../core/disk/chain.ts';
import { imageIndex, NOT_IN_CHAIN } from '../../core/disk/chain-images.ts';
import { asAccepted, judge } from '../../core/disk/judge.ts';
import { pullUses } from '../../core/disk/uses.ts';
import { fail } from '../../core/errors.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import { type PullBase, planPull } from '../../core/plans/pull.ts';
import { pullsToSubclusters } from '../../core/qemu/features.ts';
import type { PullSpec } from '../../core/rules/rebase.ts';
import { foundByName } from '../files/found-by-name.ts';
import { acceptedAt, activeImage, imageNode, keptName, refuseLongName, type Site } from './site.ts';

export async function preparePull(spec: PullSpec, site: Site): Promise<Accepted> {
  const { graph, disk } = site;
  const top = activeImage(site);
  const at = spec.base === '' ? undefined : baseIndex(spec.base, site);
  const base = at === undefined ? undefined : disk.chain[at];
  const uses = pullUses(disk.chain, { baseAt: at, toSubclusters: pullsToSubclusters(site.schema) });
  const { accept, ...losses } = asAccepted(judge(uses, spec.accept));
  const below = base && (await pullBase(base, at ?? 0, spec, site));
  if (below !== undefined) refuseLongName(below.backingFile, top);
  const found = [top, ...(at === undefined ? [] : disk.chain.slice(at))];
  const named = await foundByName(found, { relinked: top, machine: site.machine });
  const accepted = acceptedAt(site);
  const options = { ...spec.options, accept, basePath: base?.path ?? '' };
  const pulled = disk.chain[1];
  const isPulled = pulled !== undefined && pulled !== base;
  return {
    ...accepted,
    kind: 'PULL',
    destination: undefined,
    handover: { data: imageNode(top), overlay: imageNode(top), backingFile: below?.backingFile ?? '' },
    ...(base === undefined ? {} : { baseNode: base.node }),
    unused: {
      afterSuccess: isPulled ? onlyBelow(graph, disk, pulled.node, base === undefined ? [] : [base.node]) : [],
      otherwise: [],
    },
    committed: [],
    named,
    ...losses,
    options,
    plan: planPull(accepted.job, top.node, below, options),
  };
}

function baseIndex(name: string, { graph, disk }: Site): number {
  const at = imageIndex(disk, name, (which) => findDisk(graph, which) === disk);
  if (at === undefined || at === 0) {
    const what = at === 0 ? 'the active image of the chain' : NOT_IN_CHAIN;
    fail('BASE_NOT_IN_CHAIN', { image: name, disk: disk.id, what });
  }
  return at;
}

async function pullBase(base: Image, at: number, { options }: PullSpec, site: Site): Promise<PullBase> {
  return { node: base.node, backingFile: options.relativeBacking ? await keptName(site, 0, at) : base.path };
}
