/** The block drivers of QEMU that this service can handle. */

/** The image formats that QEMU reads; this service also creates qcow2 and raw. */
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

/** Storage: it shows its bytes unchanged, and can be an image by itself. */
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

/** Layers between an image and its storage: they do not change its contents, or only how these are stored. */
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
