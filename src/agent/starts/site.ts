/** The input of a job's preparation: one disk of one VM, and its surroundings. */
import { randomBytes } from 'node:crypto';
import type { BlockGraph, Disk, Image } from '../../core/disk/chain.ts';
import { relativeName, resolveFrom } from '../../core/disk/chain-images.ts';
import { bytesOf, DEFAULT_CLUSTER_BYTES, longestBackingFile } from '../../core/disk/image-header.ts';
import { fail } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import { OWNER_DIGITS } from '../../core/job/names.ts';
import type { KnownFile } from '../../core/job/step.ts';
import type { Schema } from '../../core/qemu/features.ts';
import { fileKey } from '../files/files.ts';
import { knownSource } from '../files/known-file.ts';
import type { Allowed } from '../files/place.ts';
import { deviceTypeOf } from '../qemu/device-type.ts';
import type { DomainGraph } from '../qemu/graphs.ts';
import type { Identity } from '../qemu/identity.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';

export interface Site {
  readonly host: string;
  /** The owner of new jobs, as `ownerOf` reads it in their ids. */
  readonly owner: string;
  readonly machine: VirtualMachine;
  readonly identity: Identity;
  /** Undefined for a QEMU without a schema. */
  readonly schema: Schema | undefined;
  readonly graph: BlockGraph;
  readonly disk: Disk;
  /** As deviceTypeOf. */
  readonly deviceType: string | undefined;
  /** The active image; undefined if it is not known to be QEMU's. */
  readonly sourceFile: KnownFile | undefined;
  /** The files that any domain holds cannot be destinations. */
  readonly graphs: readonly DomainGraph[];
  /** As processWriting, begun before; undefined if it was not. */
  readonly writing?: Promise<string | undefined>;
  readonly allowed: Allowed;
  /** The running jobs of this host. */
  readonly beside: readonly Job[];
}

/** Two digits each; the first of the sixteen are the owner's. */
const OWN_BYTES = (16 - OWNER_DIGITS) / 2;

const NVME_FAULT = 'QEMU can crash when a busy NVMe disk pivots while the guest runs (seen with QEMU 7.2)';

/** The active image. Throws for a disk on which no job can be started. */
export function activeImage({ machine, disk }: Pick<Site, 'machine' | 'disk'>): Image {
  return disk.chain[0] ?? fail('DISK_EMPTY', { domain: machine.name, disk: disk.id });
}

/** Throws for a name that is too long for the header: QEMU would report it only at the end. */
export function refuseLongName(
  name: string,
  { path, clusterSizeBytes }: Pick<Image, 'path' | 'clusterSizeBytes'>,
): void {
  const maximum = longestBackingFile(clusterSizeBytes ?? DEFAULT_CLUSTER_BYTES);
  const bytes = bytesOf(name);
  if (bytes > maximum) fail('NAME_TOO_LONG', { name, bytes, path, maximum });
}

/** The image as in the journal. */
export function imageNode({ node, path, format }: Image): { node: string; path: string; format: string } {
  return { node, path, format };
}

/** The facts of a disk's device and of its active image that are not in the graph. */
export async function sourceOf(
  machine: VirtualMachine,
  { qdev, chain: [active] }: Disk,
): Promise<Pick<Site, 'deviceType' | 'sourceFile'>> {
  const [deviceType, sourceFile] = await Promise.all([
    deviceTypeOf(machine, qdev),
    active && knownSource(active, machine),
  ]);
  return { deviceType, sourceFile };
}

/** The place of a new job, for its first entry. Throws for a disk on which no job can be started. */
export function acceptedAt(site: Site) {
  return describeSite(`bj${site.owner}${randomBytes(OWN_BYTES).toString('hex')}`, site);
}

/** The same, for a job that may exist already. */
export function describeSite(
  job: string,
  {
    host,
    machine,
    identity,
    disk,
    deviceType,
    sourceFile,
  }: Pick<Site, 'host' | 'machine' | 'identity' | 'disk' | 'deviceType' | 'sourceFile'>,
) {
  const active = activeImage({ machine, disk });
  return {
    entry: 'accepted' as const,
    version: 2 as const,
    job,
    host,
    domain: machine.name,
    domainUuid: identity.uuid,
    process: identity.facts?.process,
    ...(identity.monitor && { monitor: identity.monitor }),
    disk: disk.id,
    qdev: disk.qdev,
    source: imageNode(active),
    ...(sourceFile && { sourceFile }),
    pauseGuestBecause: deviceType?.startsWith('nvme') === true ? NVME_FAULT : undefined,
  };
}

/** Throws if the headers do not name it relatively, or name another file than the one that QEMU has there. */
export async function keptName({ disk: { id, chain } }: Pick<Site, 'disk'>, from: number, to: number): Promise<string> {
  const [above, below] = [chain[from]?.path ?? '', chain[to]?.path ?? ''];
  const name = relativeName(chain, from, to);
  if (name === undefined) {
    fail('RELATIVE_UNSUPPORTED', { why: `the chain of disk ${id} does not name ${below} relatively` });
  }
  const found = resolveFrom(above, name);
  if (found !== undefined && (found === below || (await fileKey(found)) === (await fileKey(below)))) return name;
  fail('RELATIVE_UNSUPPORTED', { why: `the image that the chain of disk ${id} names relatively is not ${below}` });
}
