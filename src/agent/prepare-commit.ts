/** From a commit that makes sense to one that can be begun. */
import { findDisk, type Image, onlyBelow, topDown } from '../core/chain.ts';
import { imageIndex, relativeName } from '../core/chain-images.ts';
import { fail } from '../core/errors.ts';
import type { Accepted } from '../core/journal-entry.ts';
import { planCommit } from '../core/plans/commit.ts';
import type { KnownFile } from '../core/plans/step.ts';
import type { CommitSpec } from '../core/rules/commit.ts';
import { invalidField } from '../core/rules/rule.ts';
import { formatOf } from './destination.ts';
import { lstat, realpath } from './disk-files.ts';
import { fileKey, knownAs } from './files.ts';
import { checkAllowed } from './place.ts';
import { acceptedAt, activeImage, imageNode, type Site } from './site.ts';

export async function prepareCommit(spec: CommitSpec, site: Site): Promise<Accepted> {
  const { graph, disk } = site;
  const active = activeImage(site);
  const { top: topAt, base: baseAt } = range(spec, site);
  const [top, base] = [imageAt(topAt, site), imageAt(baseAt, site)];
  const isActive = topAt === 0;
  const format = formatOf(base.format) ?? fail('FORMAT_UNKNOWN', { format: base.format, path: base.path });
  await refuseShared(disk.chain.slice(Math.max(topAt, 1), baseAt + 1), site);
  const committed = await knownFiles(disk.chain.slice(topAt, baseAt));
  if (spec.options.deleteCommitted) {
    for (const { path } of committed) await checkAllowed(path, site.allowed);
  }
  const accepted = await acceptedAt(site);
  const options = { ...spec.options, basePath: base.path, topPath: top.path };
  const backingFile = isActive ? undefined : nameForOverlay(topAt, baseAt, spec, site);
  return {
    ...accepted,
    kind: isActive ? 'ACTIVE_COMMIT' : 'COMMIT',
    destination: isActive ? { node: base.node, path: base.path, format, target: undefined } : undefined,
    ...(backingFile === undefined
      ? {}
      : { handover: { data: imageNode(base), overlay: imageNode(imageAt(topAt - 1, site)), backingFile } }),
    unused: { afterSuccess: onlyBelow(graph, disk, top.node, [base.node]), otherwise: [] },
    committed,
    options,
    plan: planCommit(accepted.job, { active: active.node, top: top.node, base: base.node, backingFile }, options),
  };
}

/** Which images of the chain, by index. */
function range({ top, base, shallow, active }: CommitSpec, { graph, disk }: Site): { top: number; base: number } {
  const notIn = (image: string) => fail('BASE_NOT_IN_CHAIN', { image, disk: disk.id });
  const isDisk = (which: string) => findDisk(graph, which) === disk;
  const topAt = top === '' ? 0 : (imageIndex(disk, top, isDisk) ?? notIn(top));
  const last = disk.chain.length - 1;
  const below = shallow ? topAt + 1 : last;
  const baseAt = base === '' ? below : (imageIndex(disk, base, isDisk) ?? notIn(base));
  if (topAt === last) notIn(`what would be below ${disk.chain[topAt]?.path}`);
  if (baseAt <= topAt) notIn(`${disk.chain[baseAt]?.path}, below ${disk.chain[topAt]?.path},`);
  if (topAt === 0 && !active) throw invalidField('flags', 'must hold ACTIVE to commit the active image');
  if (topAt !== 0 && active) throw invalidField('flags', `hold ACTIVE, but ${disk.chain[topAt]?.path} is not active`);
  if (shallow && baseAt !== below) notIn(`${disk.chain[baseAt]?.path}, just below ${disk.chain[topAt]?.path},`);
  return { top: topAt, base: baseAt };
}

function imageAt(index: number, { disk }: Site): Image {
  return disk.chain[index] ?? fail('BASE_NOT_IN_CHAIN', { image: `[${index}]`, disk: disk.id });
}

/** A commit changes images that others may have below theirs: what they show would be no moment of any disk. */
async function refuseShared(images: readonly Image[], { graph, graphs, disk, machine }: Site): Promise<void> {
  const own = new Set(disk.chain[0] === undefined ? [] : topDown(graph, disk.chain[0].node));
  for (const image of images) {
    const key = await fileKey(image.path);
    for (const other of graphs) {
      if (other.opens === 'UNKNOWN' || other.opens?.has(key) === true) {
        fail('DESTINATION_IN_USE', { path: image.path, by: `domain ${other.domain}, whose QEMU cannot be asked` });
      }
      const isHere = other.socketPath === machine.socketPath;
      for (const node of other.graph.nodes.values()) {
        if ((isHere && own.has(node.node)) || (await fileKey(node.path)) !== key) continue;
        const by = `node ${node.node} of domain ${other.domain} reads it`;
        fail('DESTINATION_IN_USE', { path: image.path, by });
      }
      if (!isHere) continue;
      // An overlay that no device is on: exported for a backup, maybe.
      for (const [parent, below] of graph.children) {
        if (own.has(parent) || below.every(({ node }) => node !== image.node)) continue;
        fail('DESTINATION_IN_USE', { path: image.path, by: `node ${parent} of domain ${other.domain} reads it` });
      }
      const sharer = other.graph.disks.find(
        ({ qdev, chain }) => qdev !== disk.qdev && chain.some(({ node }) => node === image.node),
      );
      if (sharer !== undefined) {
        fail('DESTINATION_IN_USE', { path: image.path, by: `disk ${sharer.id} of domain ${other.domain} reads it` });
      }
    }
  }
}

/** Those that are local files: the others nobody here can delete. */
async function knownFiles(images: readonly Image[]): Promise<readonly KnownFile[]> {
  const known = await Promise.all(
    images.map(async ({ path }) => {
      const real = await realpath(path).catch(() => undefined);
      const stats = real === undefined ? undefined : await lstat(real).catch(() => undefined);
      return real === undefined || stats?.isFile() !== true ? [] : [knownAs(real, stats)];
    }),
  );
  return known.flat();
}

/** What the header of the image above the top is to say. */
function nameForOverlay(topAt: number, baseAt: number, { options }: CommitSpec, site: Site): string {
  const base = imageAt(baseAt, site).path;
  if (!options.relativeBacking) return base;
  const name = relativeName(site.disk.chain, topAt - 1, baseAt);
  if (name !== undefined) return name;
  fail('RELATIVE_UNSUPPORTED', { why: `the chain of disk ${site.disk.id} does not name ${base} relatively` });
}
