/**
 * The closed list: each kind of image that a chain may have, and what becomes of it in each role. What is in no row is
 * refused as UNKNOWN. docs/disks.md is this table in words, and is held to it.
 */
import type { Image } from '../chain.ts';
import type { Accept } from '../job-options.ts';
import type { Role } from './uses.ts';

export type Fate =
  /** What it has is in the result. */
  | { readonly is: 'CARRIED'; readonly note: string }
  /** It stays as it is. */
  | { readonly is: 'KEPT'; readonly note: string }
  /** `why`: the end of a sentence that begins with the image. */
  | { readonly is: 'REFUSED'; readonly why: string }
  /** Refused unless the caller accepts it. */
  | {
      readonly is: 'LOST';
      readonly why: string;
      readonly accept: Accept;
      readonly wayOut: string;
      /** Nothing is lost where this image takes it. */
      readonly unless?: (into: Image | undefined) => boolean;
    };

export interface Kind {
  /** For people: what such an image is or has. */
  readonly title: string;
  /** The same of this image, as a sentence goes on that begins with it; undefined: it is of another kind. */
  readonly of: (image: Image, sharedBy: string | undefined) => string | undefined;
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

const notKnown = refused('it is not known what would become of it');
const readable = {
  is: 'LOST',
  why: 'its contents would be readable in an image that is not encrypted',
  accept: 'LOSES_ENCRYPTION',
  wayOut: 'encrypt what is below that image',
  unless: (into: Image | undefined) => into?.encrypted === true,
} as const;
const snapshots = (why: string) =>
  ({ is: 'LOST', why, accept: 'LOSES_INTERNAL_SNAPSHOTS', wayOut: 'delete them first' }) as const;

const shared = {
  is: 'LOST',
  why: 'what others write to it may be missing in the copy, and the guest never sees what they write when it has left it',
  accept: 'SHARED_WRITER',
  wayOut: 'end the other use',
} as const;

export const KINDS = {
  UNKNOWN: {
    title: 'of a driver that is not named here, or on a node of such a one',
    of: ({ format, layers, storage }) => {
      if (!FORMATS.has(format) && !STORAGES.has(format)) return `is of driver ${format}`;
      const unknown = layers.find((driver) => !LAYERS.has(driver));
      if (unknown !== undefined) return `is on a node of driver ${unknown}`;
      return storage === undefined || STORAGES.has(storage.driver)
        ? undefined
        : `is on a node of driver ${storage.driver}`;
    },
    fates: {
      READ: notKnown,
      FILLED: notKnown,
      RELINKED: notKnown,
      CUT: notKnown,
      NAMED: notKnown,
      LEFT: notKnown,
      DELETED: notKnown,
    },
  },
  PART: {
    title: 'a part of a file: raw with `offset` or `size`, or an image inside of such a part',
    of: ({ isPart }) => (isPart ? 'is a part of that file only (raw with offset or size)' : undefined),
    fates: {
      READ: carried('the part, and nothing else of the file; the result is an image of its own'),
      FILLED: kept('only the part is written'),
      RELINKED: refused('what its header says cannot be read back'),
      CUT: kept(''),
      NAMED: refused('by the name of the file somebody who opens it finds other contents'),
      LEFT: kept('the file is never called safe to delete: it holds more'),
      DELETED: refused('the file holds more'),
    },
  },
  ENCRYPTED: {
    title: 'encrypted: luks, or qcow2 with encryption',
    of: ({ encrypted }) => (encrypted ? 'is encrypted' : undefined),
    fates: {
      READ: readable,
      FILLED: kept('what it takes is encrypted'),
      RELINKED: kept('it stays encrypted'),
      CUT: kept(''),
      NAMED: kept('whoever opens the result needs its secret, as before'),
      LEFT: kept(''),
      DELETED: kept('it is deleted'),
    },
  },
  SNAPSHOTS: {
    title: 'qcow2 with internal snapshots',
    of: ({ snapshots: names }) =>
      names.length === 0 ? undefined : `has internal snapshots (${names.slice(0, SHOWN).join(', ')}${more(names)})`,
    fates: {
      READ: kept('they stay in it'),
      FILLED: kept(''),
      RELINKED: kept(''),
      CUT: snapshots('what they have from the images below would be gone from them'),
      NAMED: kept(''),
      LEFT: snapshots('the image with which the guest goes on has none of them'),
      DELETED: snapshots('no other image has them'),
    },
  },
  SHARED: {
    title:
      'active, and somebody else may write to it: `share-rw`, another VM, process or node that has it open for writing',
    of: (_image, sharedBy) => sharedBy,
    fates: {
      READ: shared,
      FILLED: kept(''),
      RELINKED: kept(''),
      CUT: kept(''),
      NAMED: kept(''),
      LEFT: shared,
      DELETED: shared,
    },
  },
} as const satisfies Readonly<Record<string, Kind>>;

/** So many are named. */
const SHOWN = 5;

function more(names: readonly string[]): string {
  return names.length > SHOWN ? `, and ${names.length - SHOWN} more` : '';
}

export type KindName = keyof typeof KINDS;
