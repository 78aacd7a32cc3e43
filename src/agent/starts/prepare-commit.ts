/** Prepares a commit: turns a valid request into a job that can begin. */
import { findDisk, type Image, onlyBelow, topDown } from '../../core/disk/chain.ts';
import { imageIndex, NOT_IN_CHAIN } from '../../core/disk/chain-images.ts';
import { asAccepted, judge } from '../../core/disk/judge.ts';
import { commitUses } from '../../core/disk/uses.ts';
import { fail } from '../../core/errors.ts';
import type { Accepted, AcceptedDestination } from '../../core/job/journal-entry.ts';
import type { CommittedFile, KnownFile } from '../../core/job/step.ts';
import type { ImageFormat } from '../../core/job-options.ts';
import { planCommit } from '../../core/plans/commit.ts';
import type { CommitSpec } from '../../core/rules/commit.ts';
import { invalidField } from '../../core/rules/rule.ts';
import { fileKey } from '../files/files.ts';
import { foundByName } from '../files/found-by-name.ts';
import { knownFiles } from '../files/known-file.ts';
import { checkAllowed } from '../files/place.ts';
import { sharedStorage } from '../files/shared-storage.ts';
import { domainWith, lookOnce } from '../qemu/graphs.ts';
import { formatOf } from './destination.ts';
import { sharedWriter } from './shared-writer.ts';
import { acceptedAt, activeImage, imageNode, keptName, refuseLongName, type Site } from './site.ts';

export async function prepareCommit(spec: CommitSpec, site: Site): Promise<Accepted> {
  const { graph, disk } = site;
  const active = activeImage(site);
  const { top: topAt, base: baseAt } = range(spec, site);
  const [top, base] = [imageAt(topAt, site), imageAt(baseAt, site)];
  const isActive = topAt === 0;
  const sharedBy = isActive ? await sharedWriter(site) : undefined;
  const uses = commitUses(disk.chain, { topAt, baseAt, deletes: spec.options.deleteCommitted, sharedBy });
  const { accept, ...losses } = asAccepted(judge(uses, spec.accept));
  const format =
    formatOf(base.format) ??
    fail('FORMAT_UNKNOWN', { format: base.format, path: base.path, why: 'only raw and qcow2 can be written' });
  await refuseShared(disk.chain.slice(Math.max(topAt, 1), baseAt + 1), site);
  const committed = await committedFiles(disk.chain.slice(topAt, baseAt), spec, site);
  const stays = [...disk.chain.slice(0, topAt), ...disk.chain.slice(baseAt)];
  const { machine } = site;
  const named = await foundByName(stays, isActive ? { machine } : { relinked: imageAt(topAt - 1, site), machine });
  const accepted = acceptedAt(site);
  const options = { ...spec.options, accept, basePath: base.path, topPath: top.path };
  const backingFile = isActive ? undefined : await nameForOverlay(topAt, baseAt, spec, site);
  if (backingFile !== undefined) refuseLongName(backingFile, imageAt(topAt - 1, site));
  return {
    ...accepted,
    kind: isActive ? 'ACTIVE_COMMIT' : 'COMMIT',
    destination: isActive ? await asDestination(base, format, site) : undefined,
    ...(backingFile === undefined
      ? {}
      : { handover: { data: imageNode(base), overlay: imageNode(imageAt(topAt - 1, site)), backingFile } }),
    named,
    unused: { afterSuccess: onlyBelow(graph, disk, top.node, [base.node]), otherwise: [] },
    committed,
    ...losses,
    options,
    plan: planCommit(accepted.job, { active: active.node, top: top.node, base: base.node, backingFile }, options),
  };
}

async function asDestination(base: Image, format: ImageFormat, { machine }: Site): Promise<AcceptedDestination> {
  const [file] = await knownFiles([base], machine);
  const known = typeof file === 'object' ? { file } : {};
  return { node: base.node, path: base.path, format, target: undefined, ...known };
}

/** The images of the chain, by index. */
function range({ top, base, shallow, active }: CommitSpec, { graph, disk }: Site): { top: number; base: number } {
  const wrong = (image: string, what: string) => fail('BASE_NOT_IN_CHAIN', { image, what, disk: disk.id });
  const notIn = (image: string) => wrong(image, NOT_IN_CHAIN);
  const pathOf = (at: number) => disk.chain[at]?.path ?? '';
  const isDisk = (which: string) => findDisk(graph, which) === disk;
  const topAt = top === '' ? 0 : (imageIndex(disk, top, isDisk) ?? notIn(top));
  const last = disk.chain.length - 1;
  const below = shallow ? topAt + 1 : last;
  const baseAt = base === '' ? below : (imageIndex(disk, base, isDisk) ?? notIn(base));
  if (topAt === last) wrong(pathOf(topAt), 'the lowest image of the chain');
  if (baseAt <= topAt) wrong(pathOf(baseAt), `not below ${pathOf(topAt)} in the chain`);
  if (topAt === 0 && !active) throw invalidField('flags', 'must hold ACTIVE to commit the active image');
  if (topAt !== 0 && active) throw invalidField('flags', `hold ACTIVE, but ${pathOf(topAt)} is not active`);
  if (shallow && baseAt !== below) wrong(pathOf(baseAt), `not just below ${pathOf(topAt)} in the chain`);
  return { top: topAt, base: baseAt };
}

function imageAt(index: number, { disk }: Site): Image {
  return disk.chain[index] ?? fail('BASE_NOT_IN_CHAIN', { image: `[${index}]`, disk: disk.id, what: NOT_IN_CHAIN });
}

/** A commit changes images that may be backing images of others, which would not match any point in time afterwards. */
async function refuseShared(images: readonly Image[], site: Site): Promise<void> {
  const { graph, graphs, disk, machine } = site;
  const own = new Set(disk.chain[0] === undefined ? [] : topDown(graph, disk.chain[0].node));
  const others = graphs.filter(({ socketPath }) => socketPath !== machine.socketPath);
  const here = `of domain ${machine.name}`;
  const look = lookOnce();
  const foreign = new Map<string, string>();
  for (const { node, path } of graph.nodes.values()) if (!own.has(node)) foreign.set(await fileKey(path), node);
  for (const image of images) {
    const refuse = (by: string) => fail('DESTINATION_IN_USE', { path: image.path, by });
    const by = await domainWith(image.path, others, look);
    if (by !== undefined) refuse(by);
    const other = foreign.get(await fileKey(image.path));
    if (other !== undefined) refuse(`node ${other} ${here}`);
    // An overlay without a device: maybe exported for a backup.
    for (const [parent, below] of graph.children) {
      if (own.has(parent) || below.every(({ node }) => node !== image.node)) continue;
      refuse(`node ${parent} ${here} reads it`);
    }
    const sharer = graph.disks.find(
      ({ qdev, chain }) => qdev !== disk.qdev && chain.some(({ node }) => node === image.node),
    );
    if (sharer !== undefined) refuse(`disk ${sharer.id} ${here} reads it`);
  }
}

/** The images that are files of this host. Throws if one must not be deleted, or is not proved to be QEMU's. */
async function committedFiles(
  images: readonly Image[],
  { options }: CommitSpec,
  { machine, allowed }: Site,
): Promise<readonly CommittedFile[]> {
  const files = await knownFiles(images, machine);
  const proved = files.filter((file) => typeof file !== 'string');
  if (!options.deleteCommitted) return proved;
  const path = images.find((_image, at) => files[at] === 'NOT_PROVED')?.path;
  if (path !== undefined) fail('FILE_NOT_KNOWN', { path, domain: machine.name });
  for (const file of proved) await checkAllowed(file.path, allowed);
  return await Promise.all(proved.map(onItsStorage));
}

async function onItsStorage(file: KnownFile): Promise<CommittedFile> {
  const storage = await sharedStorage(file.path);
  return storage === undefined ? file : { ...file, sharedStorage: storage };
}

/** The backing file for the header of the image above the top. */
async function nameForOverlay(topAt: number, baseAt: number, { options }: CommitSpec, site: Site): Promise<string> {
  return options.relativeBacking ? await keptName(site, topAt - 1, baseAt) : imageAt(baseAt, site).path;
}
