/**
 * The closed list: each kind of image that a chain may have, and what becomes of it in each role. What is in no row is
 * refused as UNKNOWN. docs/disks.md is this table in words, and is held to it.
 */
import type { Image } from '../chain.ts';
import type { Role } from './uses.ts';

export type Fate =
  /** What it has is in the result. */
  | { readonly is: 'CARRIED'; readonly note: string }
  /** It stays as it is. */
  | { readonly is: 'KEPT'; readonly note: string }
  /** `why`: the end of a sentence that begins with the image. */
  | { readonly is: 'REFUSED'; readonly why: string };

export interface Kind {
  /** For people: what such an image is. */
  readonly title: string;
  /** What of this kind the image is or has, for people; undefined: it is none. */
  readonly of: (image: Image) => string | undefined;
  readonly fates: Readonly<Record<Role, Fate>>;
}

/** Images that QEMU reads; qcow2 and raw it also makes here. */
const FORMATS: ReadonlySet<string> = new Set([
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
const STORAGES: ReadonlySet<string> = new Set([
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
const LAYERS: ReadonlySet<string> = new Set([
  'raw',
  'luks',
  'throttle',
  'copy-on-read',
  'preallocate',
  'compress',
  'blkdebug',
]);

const carried = (note: string) => ({ is: 'CARRIED', note }) as const;
const kept = (note: string) => ({ is: 'KEPT', note }) as const;
const refused = (why: string) => ({ is: 'REFUSED', why }) as const;

const notKnown = refused('it is of no kind that this service knows what to do with');

export const KINDS = {
  UNKNOWN: {
    title: 'of a driver that is not listed here, or on one',
    of: ({ format, layers, storage }) =>
      FORMATS.has(format) || STORAGES.has(format)
        ? [...layers.filter((driver) => !LAYERS.has(driver)), ...notIn(STORAGES, storage?.driver)]
            .map((driver) => `on a node of driver ${driver}`)
            .at(0)
        : `of driver ${format}`,
    fates: {
      READ: notKnown,
      FILLED: notKnown,
      RELINKED: notKnown,
      NAMED: notKnown,
      LEFT: notKnown,
      DELETED: notKnown,
    },
  },
  PART: {
    title: 'a part of a file: raw with `offset` or `size`, or an image inside of such a part',
    of: ({ isPart }) => (isPart ? 'a part of that file only (raw with offset or size)' : undefined),
    fates: {
      READ: carried('the part, and nothing else of the file; the result is an image of its own'),
      FILLED: kept('only the part is written'),
      RELINKED: refused('what its header says cannot be read back'),
      NAMED: refused('by the name of the file somebody who opens it finds other contents'),
      LEFT: kept('the file is never called safe to delete: it holds more'),
      DELETED: refused('the file holds more'),
    },
  },
} as const satisfies Readonly<Record<string, Kind>>;

export type KindName = keyof typeof KINDS;

function notIn(set: ReadonlySet<string>, driver: string | undefined): readonly string[] {
  return driver === undefined || set.has(driver) ? [] : [driver];
}
