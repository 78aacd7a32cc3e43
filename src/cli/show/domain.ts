/** VMs and their disks, in words. */
import { type Disk, type Domain, errorOfStatus, type Image } from '../../client/index.ts';
import { bytes } from '../units.ts';
import { progressOf, stateOf } from './job.ts';
import { guestName, kindName } from './names.ts';

export function domainRow({ name, host, guestState, qemuVersion, uuid, error }: Domain): string[] {
  const guest = error === undefined ? guestName(guestState) : errorOfStatus(error).text;
  return [name, host, guest, qemuVersion, uuid];
}

export function diskInWords(disk: Disk): string[] {
  const { name, deviceModel, virtualSizeBytes, readOnly, chain, job } = disk;
  const about = [deviceModel, bytes(virtualSizeBytes), readOnly ? 'read-only' : ''].filter((part) => part !== '');
  const lines = [`${name}  ${chain.length === 0 ? 'no medium' : about.join(', ')}`, ...chain.map(imageInWords)];
  if (job !== undefined) lines.push(`  job ${job.id}: ${kindName(job.kind)} ${stateOf(job)} ${progressOf(job)}`);
  return lines;
}

function imageInWords({ index, path, format, allocatedBytes, bitmaps, encrypted, storage }: Image): string {
  const parts = [storage === 'file' ? format : `${format} on ${storage}`];
  if (allocatedBytes !== undefined) parts.push(`${bytes(allocatedBytes)} on disk`);
  if (encrypted) parts.push('encrypted');
  if (bitmaps.length > 0) parts.push(`bitmaps ${bitmaps.join(' ')}`);
  return `  [${index}] ${path}  (${parts.join(', ')})`;
}
