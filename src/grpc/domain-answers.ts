/** Core types → messages: domains and their disks. */
import {
  type Disk as DiskMessage,
  type Domain as DomainMessage,
  GuestState,
} from '../../generated/blockjob/v1/domain_service.ts';
import type { Domain, DomainDisk } from '../core/block-jobs.ts';
import { fromJobView } from './answers.ts';
import { toEnum } from './enums.ts';
import { statusOf } from './status.ts';

export function fromDomain(domain: Domain, disks: readonly DomainDisk[] = []): DomainMessage {
  const { connection } = domain;
  const up = connection.up ? connection : undefined;
  const why = connection.up ? undefined : connection.why;
  return {
    name: domain.name,
    uuid: domain.uuid ?? '',
    host: domain.host,
    guestState: up?.guestState === undefined ? 0 : toEnum(GuestState, 'GUEST_STATE', up.guestState),
    qemuVersion: up?.qemuVersion ?? '',
    qemuPid: up?.qemuPid ?? 0,
    disks: disks.map(fromDisk),
    error: why && statusOf(why),
  };
}

function fromDisk({ disk, deviceType, activeJob }: DomainDisk): DiskMessage {
  const [top] = disk.chain;
  return {
    qdevId: disk.id,
    blockBackend: disk.backend,
    nodeName: top?.node ?? '',
    path: top?.path ?? '',
    name: disk.id,
    deviceModel: deviceType ?? '',
    virtualSizeBytes: BigInt(top?.virtualSizeBytes ?? 0),
    readOnly: top?.readOnly ?? false,
    chain: disk.chain.map((image, index) => ({
      index,
      path: image.path,
      nodeName: image.node,
      storageNodeName: image.storage?.node ?? '',
      format: image.format,
      storage: image.storage?.driver ?? '',
      virtualSizeBytes: BigInt(image.virtualSizeBytes),
      allocatedBytes: image.allocatedBytes === undefined ? undefined : BigInt(image.allocatedBytes),
      backingFile: image.backingFile,
      backingFormat: image.backingFormat,
      readOnly: image.readOnly,
      encrypted: image.encrypted,
      bitmaps: image.bitmaps.map(({ name }) => name),
    })),
    job: activeJob && fromJobView(activeJob),
  };
}
