/** QEMU's block drivers that this service knows what to do with. */

/** Images that QEMU reads; qcow2 and raw it also makes here. */
export const FORMATS: ReadonlySet<string> = new Set([
  'raw',
  'qcow2',
  'qcow',
  'qed',
  'vmdk',
  'vdi',
  'vpc',
  'vhdx',
  'parallels',
  'luks',
  'dmg',
  'cloop',
  'bochs',
]);

/** What holds bytes, and shows all of them as they are: also an image by itself. */
export const STORAGES: ReadonlySet<string> = new Set([
  'file',
  'host_device',
  'host_cdrom',
  'nbd',
  'rbd',
  'iscsi',
  'nfs',
  'ssh',
  'http',
  'https',
  'ftp',
  'ftps',
  'gluster',
  'nvme',
  'io_uring',
  'nvme-io_uring',
  'virtio-blk-vfio-pci',
  'virtio-blk-vhost-user',
  'virtio-blk-vhost-vdpa',
  'null-co',
  'null-aio',
]);

/** Between an image and its storage: they change nothing of what is there, or only how it is written down. */
export const FILTERS: ReadonlySet<string> = new Set([
  'throttle',
  'copy-on-read',
  'preallocate',
  'compress',
  'blkdebug',
]);
export const LAYERS: ReadonlySet<string> = new Set(['raw', 'luks', ...FILTERS]);

export function isKnown(driver: string): boolean {
  return FORMATS.has(driver) || STORAGES.has(driver);
}
