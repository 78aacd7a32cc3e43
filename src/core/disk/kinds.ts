/**
 * The closed list: each kind of image that a chain may have, and what becomes of it in each role. What is in no row is
 * refused as UNKNOWN. docs/disks.md is this table in words, and is held to it.
 */
import type { Image } from './chain.ts';
import { FILTERS, isKnown, LAYERS, STORAGES } from './drivers.ts';
import { carried, type Fate, kept, refused } from './fates.ts';
import type { Beside, Into, Role } from './uses.ts';

export interface Kind {
  /** For people: what such an image is or has. */
  readonly title: string;
  /** The same of this image, as a sentence goes on that begins with it; undefined: it is of another kind. */
  readonly of: (image: Image, beside: Beside) => string | undefined;
  readonly fates: Readonly<Record<Role, Fate>>;
}

/** As headers have them: a path, or a URI. */
const HAS_NAME = /^(\/|[a-z][a-z0-9+.-]*:\/\/)/;

/** QEMU writes U+FFFD where a name is no UTF-8. */
export function isMisnamed(path: string): boolean {
  return path.includes('\uFFFD');
}

const notKnown = refused('it is not known what would become of it');
const filtered = refused('it is not known what would become of the filter');
const notHere = 'it is no file of this host';
const readable = {
  is: 'LOST',
  why: 'its contents would be readable in an image that is not encrypted',
  accept: 'LOSES_ENCRYPTION',
  wayOut: 'copy the disk to a destination that is encrypted, too (destination.encryption of StartCopy)',
  unless: (into: Into) => into?.encrypted === true,
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
      if (!isKnown(format)) return `is of driver ${format}`;
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
  FILTERED: {
    title: 'right below a filter: throttle, copy-on-read, another client’s backup, …',
    of: ({ filters: [filter] }) => (filter === undefined ? undefined : `is below a filter node (${filter})`),
    fates: {
      READ: carried('without the filter'),
      FILLED: filtered,
      RELINKED: filtered,
      CUT: filtered,
      NAMED: filtered,
      LEFT: filtered,
      DELETED: filtered,
    },
  },
  LAYERED: {
    title: 'on a throttle, copy-on-read, preallocate, compress or blkdebug node',
    of: ({ layers }) => layers.find((driver) => FILTERS.has(driver)) && 'is on a filter node',
    fates: {
      READ: carried('without that node: the result has no limits of it'),
      FILLED: kept('through that node'),
      RELINKED: kept(''),
      CUT: kept(''),
      NAMED: kept('who opens the result has no such node, unless told'),
      LEFT: kept(''),
      DELETED: kept('it is deleted'),
    },
  },
  NAMELESS: {
    title: 'on storage that only QEMU’s options describe (`json:` in its name), as NBD with TLS',
    of: ({ path }) => (HAS_NAME.test(path) ? undefined : 'has no name but options of QEMU'),
    fates: {
      READ: carried(''),
      FILLED: kept(''),
      RELINKED: refused(notHere),
      CUT: kept(''),
      NAMED: refused('QEMU does not open an image of a format by such a name'),
      LEFT: kept('it is not called safe to delete'),
      DELETED: refused(notHere),
    },
  },
  MISNAMED: {
    title: 'of a name that is no UTF-8, and that QEMU does not tell whole',
    of: ({ path }) => (isMisnamed(path) ? 'has a name that is no UTF-8' : undefined),
    fates: {
      READ: carried(''),
      FILLED: kept(''),
      RELINKED: refused('its header cannot be read back'),
      CUT: kept(''),
      NAMED: refused('the name that QEMU tells leads to another file, or to none'),
      LEFT: kept('it is not called safe to delete'),
      DELETED: refused('it is not known which file it is'),
    },
  },
  REMOTE: {
    title: 'on a network, with a URI',
    of: ({ path }) => (HAS_NAME.test(path) && !path.startsWith('/') ? 'is on a network' : undefined),
    fates: {
      READ: carried(''),
      FILLED: kept(''),
      RELINKED: refused(notHere),
      CUT: kept(''),
      NAMED: kept('by its URI'),
      LEFT: kept('it is not called safe to delete'),
      DELETED: refused(notHere),
    },
  },
  OTHER: {
    title: 'of another format than raw and qcow2',
    of: ({ format }) =>
      format === 'raw' || format === 'qcow2' || !isKnown(format) ? undefined : `is of format ${format}`,
    fates: {
      READ: carried('a destination is raw or qcow2: FORMAT_UNKNOWN until one is chosen'),
      FILLED: kept('FORMAT_UNKNOWN for the base of a commit'),
      RELINKED: refused('its header cannot be read back'),
      CUT: kept(''),
      NAMED: kept('with its format'),
      LEFT: kept(''),
      DELETED: kept('it is deleted'),
    },
  },
  DATA_FILE: {
    title: 'qcow2 with an external data file',
    of: ({ dataFile }) => (dataFile === '' ? undefined : `has its contents in ${dataFile}`),
    fates: {
      READ: carried('the result has all in one file'),
      FILLED: kept('in the data file'),
      RELINKED: kept(''),
      CUT: kept(''),
      NAMED: kept('its own header names its data file'),
      LEFT: kept('its data file is not called safe to delete with it'),
      DELETED: kept('its data file stays'),
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
  LONGER: {
    title: 'longer than an image above it that a pull or a commit takes away',
    of: (_image, { hiddenBy }) => hiddenBy,
    fates: {
      READ: carried(''),
      FILLED: kept(''),
      RELINKED: kept(''),
      CUT: kept(''),
      NAMED: refused('behind the end of that image the guest sees zeroes, and would see what this one has there'),
      LEFT: kept(''),
      DELETED: kept('it is deleted'),
    },
  },
  SUBCLUSTERS: {
    title: 'qcow2 with extended L2 entries, into which a QEMU before 8.2 is to pull',
    of: (_image, { endsQemu }) => endsQemu,
    fates: {
      READ: carried(''),
      FILLED: refused('this QEMU can crash when it pulls into a cluster that is written in part'),
      RELINKED: kept(''),
      CUT: kept(''),
      NAMED: kept(''),
      LEFT: kept(''),
      DELETED: kept('it is deleted'),
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
    of: (_image, { sharedBy }) => sharedBy,
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
