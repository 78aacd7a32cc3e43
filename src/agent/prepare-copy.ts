/** From a copy that makes sense to one that can be begun: everything that can be refused is refused here, untouched. */
import { randomBytes } from 'node:crypto';
import { type BlockGraph, type Disk, topDown } from '../core/chain.ts';
import { fail } from '../core/errors.ts';
import type { Accepted, ImageFormat } from '../core/journal-entry.ts';
import { namesOf, planCopy } from '../core/plans/copy.ts';
import type { CopySpec } from '../core/rules/start-copy.ts';
import { checkNewFile } from './destination.ts';
import type { DomainGraph } from './graphs.ts';
import type { Identity, VirtualMachine } from './virtual-machine.ts';

export interface CopySite {
  readonly host: string;
  readonly machine: VirtualMachine;
  readonly identity: Identity;
  readonly graph: BlockGraph;
  readonly disk: Disk;
  /** Of all domains: what they hold is no destination. */
  readonly graphs: readonly DomainGraph[];
  readonly allowedFolders: readonly string[];
}

const NVME_FAULT = 'QEMU can crash when a busy NVMe disk pivots while the guest runs (seen with QEMU 7.2)';

export async function prepareCopy(spec: CopySpec, site: CopySite): Promise<Accepted> {
  const { machine, identity, graph, disk } = site;
  const [top] = disk.chain;
  if (top === undefined) fail('DISK_EMPTY', { domain: machine.name, disk: disk.id });
  const format = spec.format ?? formatOf(top.format) ?? fail('FORMAT_UNKNOWN', { format: top.format, path: top.path });
  const { path, takeOver } = await checkNewFile(spec.path, site.allowedFolders, site.graphs);
  const deviceType = await machine.deviceType(disk.qdev);

  const job = `bj${randomBytes(8).toString('hex')}`;
  const names = namesOf(job);
  const source = {
    disk,
    node: top.node,
    virtualSizeBytes: top.virtualSizeBytes,
    clusterSizeBytes: top.clusterSizeBytes,
    extendedL2: top.extendedL2,
  };
  const options = { ...spec.options, format };
  return {
    entry: 'accepted',
    version: 1,
    job,
    kind: 'COPY',
    host: site.host,
    domain: machine.name,
    domainUuid: identity.uuid,
    process: identity.facts?.process,
    disk: disk.id,
    qdev: disk.qdev,
    source: { node: top.node, path: top.path, format: top.format },
    sourceNodes: topDown(graph, top.node),
    destination: { node: names.node, path, nodes: [names.node, names.file] },
    pauseGuestBecause: deviceType?.startsWith('nvme') === true ? NVME_FAULT : undefined,
    options,
    plan: planCopy(job, source, { path, takeOver, owner: identity.facts?.owner }, options),
  };
}

function formatOf(driver: string): ImageFormat | undefined {
  return driver === 'qcow2' ? 'QCOW2' : driver === 'raw' ? 'RAW' : undefined;
}
