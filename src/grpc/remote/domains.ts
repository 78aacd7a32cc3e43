/** Messages → core types: the domains and disks of a service elsewhere. */
import {
  type Disk as DiskMessage,
  type Domain as DomainMessage,
  GuestState,
} from '../../../generated/blockjob/v1/domain_service.ts';
import type { Domain, DomainDisk } from '../../core/block-jobs.ts';
import { enumName } from '../enums.ts';
import { toJobView, unlessEmpty } from './answers.ts';
import { failureOf } from './failure.ts';

export function toDomain(message: DomainMessage): Domain {
  const { name, uuid, host, error } = message;
  return {
    name,
    uuid: unlessEmpty(uuid),
    host,
    connection:
      error === undefined
        ? {
            up: true,
            qemuVersion: message.qemuVersion,
            qemuPid: message.qemuPid === 0 ? undefined : message.qemuPid,
            guestState: enumName(GuestState, 'GUEST_STATE', message.guestState),
          }
        : { up: false, why: failureOf(error) },
  };
}

export function toDomainDisk(message: DiskMessage): DomainDisk {
  return {
    disk: {
      id: message.qdevId,
      backend: message.blockBackend,
      chain: message.chain.map((image) => ({
        node: image.nodeName,
        format: image.format,
        path: image.path,
        storage: image.storage === '' ? undefined : { node: image.storageNodeName, driver: image.storage },
        virtualSizeBytes: Number(image.virtualSizeBytes),
        allocatedBytes: image.allocatedBytes === undefined ? undefined : Number(image.allocatedBytes),
        readOnly: image.readOnly,
        encrypted: image.encrypted,
        backingFile: image.backingFile,
        backingFormat: image.backingFormat,
        bitmaps: image.bitmaps.map((name) => ({ name })),
      })),
    },
    deviceType: unlessEmpty(message.deviceModel),
    activeJob: message.job && toJobView(message.job),
  };
}
