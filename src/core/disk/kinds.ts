/**
 * The closed list: each kind of image that a chain may have, and the fate of such an image in each role. An image that
 * fits no row is refused as UNKNOWN. docs/disks.md shows this table, and a test keeps both the same.
 */
import type { Image } from './chain.ts';
import { FILTERS, isKnown, LAYERS, STORAGES } from './drivers.ts';
import { type Beside, carried, type Fate, type Into, kept, type Role, refused } from './uses.ts';

export interface Kind {
  /** The kind in words, for people. */
  readonly title: string;
  /** The continuation of a sentence that begins with this image; undefined if it is of another kind. */
  readonly of: (image: Image, beside: Beside) => string | undefined;
  readonly fates: Readonly<Record<Role, Fate>>;
}

/** The form of names in headers: a path, or a URI. */
const HAS_NAME = /^(\/|[a-z][a-z0-9+.-]*:\/\/)/;

/** QEMU writes U+FFFD into a name that is not UTF-8. */
export function isMisnamed(path: string): boolean {
  return path.includes('\uFFFD');
}

function inEachRole<F extends Fate>(fate: F): Readonly<Record<Role, F>> {
  return { READ: fate, FILLED: fate, RELINKED: fate, CUT: fate, NAMED: fate, LEFT: fate, DELETED: fate };
}

/** The fates of an image with nothing special. */
const PLAIN = { ...inEachRole(kept('')), READ: carried(''), DELETED: kept('it is deleted') };
const notKnown = refused('the effect on it is not known');
const filtered = refused('the effect on the filter is not known');
const notHere = 'it is not a file of this host';
const readable = {
  is: 'LOST',
  why: 'its contents would be readable in an image without encryption',
  accept: 'LOSES_ENCRYPTION',
  wayOut: 'copy the disk to a destination that is also encrypted (destination.encryption of StartCopy)',
  unless: (into: Into) => into?.encrypted === true,
} as const;
const snapshots = (why: string) =>
  ({ is: 'LOST', why, accept: 'LOSES_INTERNAL_SNAPSHOTS', wayOut: 'delete them first' }) as const;

const shared = {
  is: 'LOST',
  why: 'the writes of others may be missing in the copy, and the guest does not see them any more once it has left the image',
  accept: 'SHARED_WRITER',
  wayOut: 'end the other use first',
} as const;

export const KINDS = {
  UNKNOWN: {
    title: 'of a driver that is not in this list, or on a node of such a driver',
    of: ({ format, layers, storage }) => {
      if (!isKnown(format)) return `is of driver ${format}`;
      const unknown = layers.find((driver) => !LAYERS.has(driver));
      if (unknown !== undefined) return `is on a node of driver ${unknown}`;
      return storage === undefined || STORAGES.has(storage.driver)
        ? undefined
        : `is on a node of driver ${storage.driver}`;
    },
    fates: inEachRole(notKnown),
  },
  FILTERED: {
    title: 'right below a filter: throttle, copy-on-read, another client’s backup, …',
    of: ({ filters: [filter] }) => (filter === undefined ? undefined : `is below a filter node (${filter})`),
    fates: {
      ...inEachRole(filtered),
      READ: carried('without the filter'),
    },
  },
  LOST_COUNT: {
    title: 'right below the filter of a copy that has ended: QEMU 7.2 has lost count of the users of this image',
    of: ({ lostFilter }) => lostFilter && `is below node ${lostFilter}, the filter of a copy that has ended`,
    fates: inEachRole(refused('QEMU has lost count of its users, and would abort')),
  },
  LAYERED: {
    title: 'on a throttle, copy-on-read, preallocate, compress or blkdebug node',
    of: ({ layers }) => layers.find((driver) => FILTERS.has(driver)) && 'is on a filter node',
    fates: {
      ...PLAIN,
      READ: carried('without that node: its limits do not apply to the result'),
      FILLED: kept('through that node'),
      NAMED: kept('that node is missing when the result is opened, unless it is configured'),
    },
  },
  NAMELESS: {
    title: 'on storage that only QEMU’s options describe (`json:` in its name), for example NBD with TLS',
    of: ({ path }) => (HAS_NAME.test(path) ? undefined : 'has no name except QEMU options'),
    fates: {
      ...PLAIN,
      RELINKED: refused(notHere),
      NAMED: refused('QEMU does not open an image of a given format by such a name'),
      LEFT: kept('it is not reported as safe to delete'),
      DELETED: refused(notHere),
    },
  },
  MISNAMED: {
    title: 'with a name that is not UTF-8 and that QEMU does not report completely',
    of: ({ path }) => (isMisnamed(path) ? 'has a name that is not UTF-8' : undefined),
    fates: {
      ...PLAIN,
      RELINKED: refused('its header cannot be read back'),
      NAMED: refused('the name that QEMU reports leads to another file, or to none'),
      LEFT: kept('it is not reported as safe to delete'),
      DELETED: refused('it is not known which file it is'),
    },
  },
  REMOTE: {
    title: 'on a network, with a URI',
    of: ({ path }) => (HAS_NAME.test(path) && !path.startsWith('/') ? 'is on a network' : undefined),
    fates: {
      ...PLAIN,
      RELINKED: refused(notHere),
      NAMED: kept('by its URI'),
      LEFT: kept('it is not reported as safe to delete'),
      DELETED: refused(notHere),
    },
  },
  OTHER: {
    title: 'of a format other than raw and qcow2',
    of: ({ format }) =>
      format === 'raw' || format === 'qcow2' || !isKnown(format) ? undefined : `is of format ${format}`,
    fates: {
      ...PLAIN,
      READ: carried('a destination is raw or qcow2: FORMAT_UNKNOWN until the request chooses one'),
      FILLED: kept('FORMAT_UNKNOWN for the base of a commit'),
      RELINKED: refused('its header cannot be read back'),
      NAMED: kept('with its format'),
    },
  },
  DATA_FILE: {
    title: 'qcow2 with an external data file',
    of: ({ dataFile }) => (dataFile === '' ? undefined : `has its contents in ${dataFile}`),
    fates: {
      ...PLAIN,
      READ: carried('the result has everything in one file'),
      FILLED: kept('in the data file'),
      NAMED: kept('its own header names its data file'),
      LEFT: kept('its data file is not reported as safe to delete with it'),
      DELETED: kept('its data file stays'),
    },
  },
  PART: {
    title: 'a part of a file: raw with `offset` or `size`, or an image inside such a part',
    of: ({ isPart }) => (isPart ? 'is only a part of that file (raw with offset or size)' : undefined),
    fates: {
      READ: carried('the part, and nothing else of the file; the result is an image of its own'),
      FILLED: kept('only the part is written'),
      RELINKED: refused('its header cannot be read back'),
      CUT: kept(''),
      NAMED: refused('a process that opens it by the name of the file gets other contents'),
      LEFT: kept('the file is never reported as safe to delete: it holds more'),
      DELETED: refused('the file holds more'),
    },
  },
  LONGER: {
    title: 'longer than an image above it that a pull or a commit removes',
    of: (_image, { hiddenBy }) => hiddenBy,
    fates: {
      ...PLAIN,
      NAMED: refused('the guest sees zeroes behind the end of that image, and would see the data of this one instead'),
    },
  },
  SUBCLUSTERS: {
    title: 'qcow2 with extended L2 entries, if a QEMU before 8.2 pulls into it',
    of: (_image, { endsQemu }) => endsQemu,
    fates: {
      ...PLAIN,
      FILLED: refused('this QEMU can crash when it pulls into a partly written cluster'),
    },
  },
  ENCRYPTED: {
    title: 'encrypted: luks, or qcow2 with encryption',
    of: ({ encrypted }) => (encrypted ? 'is encrypted' : undefined),
    fates: {
      ...PLAIN,
      READ: readable,
      FILLED: kept('the data that it takes is encrypted'),
      RELINKED: kept('it stays encrypted'),
      NAMED: kept('the result needs its secret when it is opened, as before'),
    },
  },
  SNAPSHOTS: {
    title: 'qcow2 with internal snapshots',
    of: ({ snapshots: names }) =>
      names.length === 0 ? undefined : `has internal snapshots (${names.slice(0, SHOWN).join(', ')}${more(names)})`,
    fates: {
      ...PLAIN,
      READ: kept('they stay in it'),
      CUT: snapshots('they would lose the data that they have from the images below'),
      LEFT: snapshots('the image on which the guest continues does not have them'),
      DELETED: snapshots('no other image has them'),
    },
  },
  SHARED: {
    title:
      'active, and another writer may change it: `share-rw`, or another VM, process or node that has it open for writing',
    of: (_image, { sharedBy }) => sharedBy,
    fates: {
      ...PLAIN,
      READ: shared,
      LEFT: shared,
      DELETED: shared,
    },
  },
} as const satisfies Readonly<Record<string, Kind>>;

/** The number of names that are shown. */
const SHOWN = 5;

function more(names: readonly string[]): string {
  return names.length > SHOWN ? `, and ${names.length - SHOWN} more` : '';
}

export type KindName = keyof typeof KINDS;
