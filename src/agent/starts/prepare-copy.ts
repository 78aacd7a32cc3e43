/** Prepares a copy: turns a valid request into a job that can begin. Every refusal happens here, before any change. */

import { type Destination, isServed, keyNeeded, keyNeededBelow } from '../../core/destination.ts';
import { onlyBelow } from '../../core/disk/chain.ts';
import { asAccepted, judge } from '../../core/disk/judge.ts';
import { copyUses } from '../../core/disk/uses.ts';
import { fail } from '../../core/errors.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import type { KnownFile } from '../../core/job/step.ts';
import { nodesOf, planCopy } from '../../core/plans/copy.ts';
import type { Backing, CopyDestination, CopySource } from '../../core/plans/copy-ends.ts';
import { granularityFor } from '../../core/plans/granularity.ts';
import { canCompare, canSwitchMode, canYank } from '../../core/qemu/features.ts';
import type { CopySpec } from '../../core/rules/start-copy.ts';
import { knownAs } from '../files/files.ts';
import { foundByName } from '../files/found-by-name.ts';
import { stat } from '../host/disk-files.ts';
import { refuseOtherLimits } from '../job/guest-throttle.ts';
import { requireSecret } from '../qemu/secrets.ts';
import { checkDestination } from './destination.ts';
import { lookAtReused } from './reused.ts';
import { sharedWriter } from './shared-writer.ts';
import { acceptedAt, activeImage, refuseLongName, type Site } from './site.ts';
import { estimateSpace, refuseWithoutSpace } from './space.ts';

export async function prepareCopy(spec: CopySpec, site: Site): Promise<Accepted> {
  const { graph, disk } = site;
  const top = activeImage(site);
  const backing = spec.options.shallow ? disk.chain[1] : undefined;
  const { encryption } = spec;
  if (needsSwitch(spec) && !canSwitchMode(site.schema)) refuseSwitch(site);
  const how = { topOnly: backing !== undefined, isEncrypted: encryption !== undefined };
  judge(copyUses(disk.chain, { ...how, isNamed: false, sharedBy: undefined }), spec.accept);
  if (encryption !== undefined) await requireSecret(encryption.secretId, site.machine);
  const [{ path, plan: destination, toSet: lacks = [] }, sharedBy] = await Promise.all([
    checkDestination(spec, { top, backing }, site),
    sharedWriter(site),
  ]);
  const reused = how.topOnly ? await lookAtReused(path, destination, spec.options, site) : undefined;
  const { backingName } = destination;
  const lost = judge(copyUses(disk.chain, { ...how, isNamed: backingName !== undefined, sharedBy }), spec.accept);
  const shared = sharedNode(destination.backing);
  const under = shared === undefined ? [] : disk.chain.slice(disk.chain.findIndex(({ node }) => node === shared));
  // The header has the cluster size of the source's, if that is qcow2, too.
  const clusterSizeBytes = top.format === 'qcow2' ? top.clusterSizeBytes : undefined;
  if (backingName !== undefined) refuseLongName(backingName.file, { path, clusterSizeBytes });
  const named = [...(await ownFiles(destination.backing)), ...(await foundByName(under, { machine: site.machine }))];
  const accepted = acceptedAt(site);
  const { job } = accepted;
  const source: CopySource = {
    node: top.node,
    virtualSizeBytes: top.virtualSizeBytes,
    clusterSizeBytes,
    extendedL2: top.extendedL2,
    cacheDirect: disk.cacheDirect,
    detectZeroes: disk.detectZeroes,
    topOnly: how.topOnly,
  };
  const verify =
    reused?.by === 'COMPARED' && backing !== undefined
      ? { node: backing.node, path: backing.path, bytes: backing.virtualSizeBytes }
      : undefined;
  if (verify !== undefined && !canCompare(site.schema)) refuseComparison(site);
  const space = await estimateSpace(destination, source, site);
  if (spec.options.overcommit !== true) refuseWithoutSpace(path, space);
  const toSet = [
    ...lacks,
    ...(encryption === undefined ? [] : [keyNeeded(path, encryption)]),
    ...under.flatMap((image) => (image.encrypted ? [keyNeededBelow(path, image.path)] : [])),
  ];
  const { accept, ...losses } = asAccepted(lost);
  const granularity = await chosenGranularity(spec, site);
  const granularityBytes = granularity?.granularityBytes ?? spec.options.granularityBytes;
  const options = {
    ...spec.options,
    granularityBytes,
    accept,
    basePath: backingName === undefined ? '' : (backing?.path ?? ''),
  };
  await refuseOtherLimits({ ...accepted, options }, site.machine);
  return {
    ...accepted,
    kind: 'COPY',
    destination: {
      node: job,
      path,
      format: destination.format,
      ...(encryption && { encryption }),
      target: targetOf(destination, spec.destination),
    },
    unused: {
      afterSuccess: onlyBelow(graph, disk, top.node, shared === undefined ? [] : [shared]),
      otherwise: nodesOf(job, destination),
    },
    committed: [],
    ...(toSet.length === 0 ? {} : { toSet }),
    ...(isServed(spec.destination) && !canYank(site.schema) ? { holdsWithoutBound: true } : {}),
    ...(reused && { reused }),
    ...(named.length === 0 ? {} : { named }),
    ...losses,
    ...(space && { space }),
    ...(granularity && { granularity }),
    options,
    plan: planCopy(job, source, { ...destination, ...(verify && { verify }) }, options),
  };
}

function needsSwitch({ options: { endPolicy, writeMode } }: CopySpec): boolean {
  return endPolicy?.switchToBlocking === true && writeMode === 'BACKGROUND';
}

function refuseSwitch({ identity, machine }: Site): never {
  const feature = 'block-job-change, with which end_policy switches the write mode';
  fail('QEMU_TOO_OLD', { version: identity.qemuVersion, domain: machine.name, feature, since: '8.2' });
}

/** For a request that wants it, and gives none. It is not measured, because a start does not wait for that. */
async function chosenGranularity({ options }: CopySpec, { machine, disk }: Site) {
  if (options.endPolicy?.chooseGranularity !== true || options.granularityBytes !== undefined) return undefined;
  const device = (await machine.blockDevices()).find(({ qdev }) => qdev === disk.qdev);
  return device && granularityFor(device.written);
}

function refuseComparison({ identity, machine }: Site): never {
  const feature = 'driver quorum, with which verify_reused compares (some vendors leave it out)';
  fail('QEMU_TOO_OLD', { version: identity.qemuVersion, domain: machine.name, feature, since: '2.0' });
}

/** The requested destination as it was found: a device may have been named as a file, or by a link. */
function targetOf({ storage }: CopyDestination, asked: Destination): Destination {
  if (storage.driver === 'nbd') return asked;
  return { kind: storage.driver === 'file' ? 'file' : 'block-device', path: storage.filename };
}

/** The images of the destination's own chain: QEMU does not have them open yet. */
async function ownFiles(backing: Backing | undefined): Promise<readonly KnownFile[]> {
  if (backing?.is !== 'IMAGE') return [];
  return [knownAs(backing.path, await stat(backing.path)), ...(await ownFiles(backing.below))];
}

/** The image of the source's chain that backs the destination: it stays. */
function sharedNode(backing: Backing | undefined): string | undefined {
  return backing?.is === 'IMAGE' ? sharedNode(backing.below) : backing?.node;
}
