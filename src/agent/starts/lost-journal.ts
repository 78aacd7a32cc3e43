/**
 * A job in QEMU without a journal: its facts, as far as QEMU itself shows them. Only jobs that began in this service's
 * own state folder, by their ids, are taken up. Another service may drive the others.
 */
import type { Logger } from 'pino';
import { type Destination, encryptionOf, keyNeeded } from '../../core/destination.ts';
import { type BlockGraph, type Disk, type Image, onlyBelow, topDown } from '../../core/disk/chain.ts';
import type { Accepted, AcceptedDestination } from '../../core/job/journal-entry.ts';
import { isJobId, namesOf } from '../../core/job/names.ts';
import { type ConfigOwner, type JobKind, plainOptions } from '../../core/job-options.ts';
import { HOLD_LIMIT_MS } from '../../core/moves/circumstances.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import { inTime } from '../../lib/timer.ts';
import { usedFiles } from '../host/file-identity.ts';
import type { GuestHolds } from '../job/guest-holds.ts';
import type { JobTable } from '../job/job-table.ts';
import type { ThrottlesLeft } from '../job/throttles-left.ts';
import type { WhoseJobs } from '../job/whose-jobs.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { formatOf } from './destination.ts';
import { describeSite, imageNode, type Site, sourceOf } from './site.ts';

interface JobSite
  extends Omit<Site, 'owner' | 'schema' | 'graphs' | 'allowed' | 'beside' | 'deviceType' | 'sourceFile'> {
  /** The default of this host: only the journal knew the owner in the request. */
  readonly configOwner: ConfigOwner;
}

interface RecoverOptions extends Pick<JobSite, 'host' | 'configOwner'> {
  readonly whose: WhoseJobs;
  readonly logger: Logger;
}

/** Looks at a QEMU that can be asked; an error is logged, and the look repeated when QEMU is connected again. */
export async function recoverLost(machine: VirtualMachine, options: RecoverOptions, table: JobTable): Promise<void> {
  const logger = options.logger.child({ domain: machine.name });
  try {
    await recover(machine, { ...options, logger }, table);
  } catch (error) {
    if (isUnreachable(error))
      logger.info({ err: error }, 'QEMU went away while it was asked for jobs without a journal');
    else logger.error({ err: error }, 'Jobs without a journal cannot be taken up');
  }
}

async function recover(
  machine: VirtualMachine,
  { host, configOwner, whose, logger }: RecoverOptions,
  table: JobTable,
): Promise<void> {
  const { identity } = machine;
  const jobs = identity === undefined ? [] : await machine.jobs();
  const lost: QemuJob[] = [];
  for (const job of jobs.filter(({ id }) => isJobId(id) && !table.known.has(id))) {
    if (await whose.wasOurs(job.id)) lost.push(job);
    else logger.warn({ job: job.id }, 'A job in QEMU belongs to another state folder, and is ignored');
  }
  if (identity === undefined || lost.length === 0) return;
  const [graph, blockJobs] = await Promise.all([machine.graph(), machine.blockJobs()]);
  for (const job of lost) {
    const speed = blockJobs.find(({ id }) => id === job.id)?.speedBytesPerSecond ?? 0;
    const accepted = await recoverJob(job, speed, { host, configOwner, machine, identity, graph });
    if (accepted === undefined) continue;
    await table.recover(accepted, machine);
    logger.warn({ job: job.id }, 'A job was found in QEMU, and its journal is lost');
  }
}

/** Undefined if it is on no disk any more, so that its effect cannot be known; its remains are leftovers. */
async function recoverJob(
  job: QemuJob,
  speedBytesPerSecond: number,
  site: Omit<JobSite, 'disk'>,
): Promise<Accepted | undefined> {
  const { graph } = site;
  const disk = graph.disks.find(({ blockJobs }) => blockJobs.includes(job.id));
  const kind = disk && kindOf(job, disk);
  const active = disk?.chain[0];
  if (disk === undefined || kind === undefined || active === undefined) return undefined;
  const used = disk.chain.filter(({ node }) => graph.jobNodes.get(job.id)?.includes(node) === true);
  const lowest = disk.chain.findLastIndex((image) => used.includes(image));
  const below = kind === 'PULL' ? disk.chain[lowest + 1] : disk.chain[lowest];
  const destination = destinationOf(job.id, kind, { disk, graph, base: below });
  if (destination === undefined && (kind === 'COPY' || kind === 'ACTIVE_COMMIT')) return undefined;
  const kept = kind === 'COPY' ? [job.id] : below === undefined ? [] : [below.node];
  const top = kind === 'PULL' ? disk.chain[1] : kind === 'COMMIT' ? belowFilter(job.id, disk, graph) : active;
  const isAbove = top !== undefined && top !== below;
  const accepted: Accepted = {
    ...describeSite(job.id, { ...site, disk, ...(await sourceOf(site.machine, disk)) }),
    kind,
    destination,
    ...(kind === 'PULL' && below !== undefined ? { baseNode: below.node } : {}),
    ...handoverIn(kind, { disk, top, below }),
    unused: {
      afterSuccess: isAbove ? onlyBelow(graph, disk, top.node, kept) : [],
      otherwise: kind === 'COPY' ? topDown(graph, job.id).filter((node) => node.startsWith(job.id)) : [],
    },
    // Only the journal knew which file was made, and which ones the job should delete: none is deleted.
    committed: [],
    ...(destination?.encryption && { toSet: [keyNeeded(destination.path, destination.encryption)] }),
    options: {
      ...plainOptions(speedBytesPerSecond),
      basePath: kind === 'COPY' ? '' : (below?.path ?? ''),
      topPath: kind === 'COMMIT' || kind === 'ACTIVE_COMMIT' ? (top?.path ?? '') : '',
      ...(destination && { configOwner: site.configOwner }),
    },
    plan: [],
    recovered: true,
  };
  return { ...accepted, uses: await usedFiles(accepted, disk) };
}

/**
 * The highest image that a commit of lower images moves, which has its filter. The job itself also has the active one.
 */
function belowFilter(job: string, { chain }: Disk, { children }: BlockGraph): Image | undefined {
  const below = children.get(namesOf(job).filter)?.map(({ node }) => node) ?? [];
  return chain.find(({ node }) => below.includes(node));
}

/** Only the journal knew the name of the backing file for the header: it may be any name of that file. */
function handoverIn(
  kind: JobKind,
  { disk, top, below }: { readonly disk: Disk; readonly top: Image | undefined; readonly below: Image | undefined },
): Pick<Accepted, 'handover'> {
  const above = kind === 'PULL' ? 0 : disk.chain.findIndex((image) => image === top) - 1;
  const overlay = kind === 'PULL' || kind === 'COMMIT' ? disk.chain[above] : undefined;
  const data = kind === 'PULL' ? overlay : below;
  if (overlay === undefined || data === undefined) return {};
  return { handover: { data: imageNode(data), overlay: imageNode(overlay), backingFile: below?.path ?? '' } };
}

/** A commit of the active image has its filter above it. */
function kindOf({ type, id }: QemuJob, disk: Disk): JobKind | undefined {
  switch (type) {
    case 'mirror':
      return 'COPY';
    case 'stream':
      return 'PULL';
    case 'commit':
      return disk.filters.includes(namesOf(id).filter) ? 'ACTIVE_COMMIT' : 'COMMIT';
    default:
      return undefined;
  }
}

function destinationOf(
  job: string,
  kind: JobKind,
  { disk, graph, base }: Pick<Site, 'disk' | 'graph'> & { readonly base: Disk['chain'][0] },
): AcceptedDestination | undefined {
  if (kind === 'PULL' || kind === 'COMMIT') return undefined;
  const image = kind === 'COPY' ? graph.nodes.get(namesOf(job).node) : base;
  const format = image && formatOf(image.format);
  if (image === undefined || format === undefined || image.node === disk.chain[0]?.node) return undefined;
  if (kind !== 'COPY') return { node: image.node, path: image.path, format, target: undefined };
  const storage = graph.nodes.get(namesOf(job).file);
  // QEMU's name of an encrypted one consists of its options.
  const path = storage === undefined || image.path.startsWith('/') ? image.path : storage.path;
  const encryption = image.encrypted ? encryptionOf(image.path) : undefined;
  return { node: image.node, path, format, ...(encryption && { encryption }), target: targetOf(storage?.format, path) };
}

function targetOf(storage: string | undefined, path: string): Destination | undefined {
  if (storage === 'file') return { kind: 'file', path };
  return storage === 'host_device' ? { kind: 'block-device', path } : undefined;
}

/** Never rejects. A held guest is resumed once the state of its job is written down, or after its time. */
export async function takeUp(
  machine: VirtualMachine,
  options: RecoverOptions & { readonly holds: GuestHolds; readonly throttles: ThrottlesLeft },
  table: JobTable,
): Promise<void> {
  const recovery = recoverLost(machine, options, table);
  await inTime(recovery, HOLD_LIMIT_MS);
  await options.holds.found(machine, (job) => table.holdsGuest(job));
  await recovery;
  await options.throttles.lift(machine);
}
