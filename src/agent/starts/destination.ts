/** Whether a copy may go to a destination, and how QEMU can reach it. Checks everything, changes nothing. */
import { constants } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { type Destination, type Encryption, isServed, nbdUri } from '../../core/destination.ts';
import type { Image } from '../../core/disk/chain.ts';
import type { Qcow2Header } from '../../core/disk/image-header.ts';
import { wholeSectors } from '../../core/disk/sectors.ts';
import { fail } from '../../core/errors.ts';
import type { ImageFormat } from '../../core/job-options.ts';
import type { Backing, CopyDestination, Storage } from '../../core/plans/copy-ends.ts';
import { boundsNbdOpen, leavesZeroesOut } from '../../core/qemu/features.ts';
import { invalidField } from '../../core/rules/rule.ts';
import type { CopySpec } from '../../core/rules/start-copy.ts';
import { GIVE_FORMAT, ownChain, usableQcow2 } from '../files/own-chain.ts';
import {
  checkAllowed,
  lookAt,
  lookAtExisting,
  mustBeWithin,
  type Place,
  readHeader,
  refuseUsed,
  withOurErrors,
} from '../files/place.ts';
import { refuseSeenOtherwise } from '../files/prove-file.ts';
import { freeBytes } from '../files/room.ts';
import { access, realpath } from '../host/disk-files.ts';
import { expectGreeting } from '../qemu/nbd-greeting.ts';
import { newFileAccess } from './new-file-access.ts';
import type { Site } from './site.ts';

/** With less space left, not even an image's metadata fits. */
const LEAST_FREE_BYTES = 1024 * 1024;

export interface CheckedDestination {
  /** Without symbolic links; the NBD URI of an export. */
  readonly path: string;
  readonly plan: CopyDestination;
  /** Changes that the VM's manager has to make to it before the next start. */
  readonly toSet?: readonly string[];
}

/** The copied disk: its active image, and the images below it if only that one is copied. */
export interface CopyFrom {
  readonly top: Image;
  readonly backing: Image | undefined;
}

export function formatOf(driver: string): ImageFormat | undefined {
  return driver === 'qcow2' ? 'QCOW2' : driver === 'raw' ? 'RAW' : undefined;
}

export async function checkDestination(spec: CopySpec, from: CopyFrom, site: Site): Promise<CheckedDestination> {
  const { destination, options } = spec;
  if (options.relativeBacking && from.backing === undefined) {
    fail('RELATIVE_UNSUPPORTED', { why: `${from.top.path} has no backing image` });
  }
  const isRaw = spec.format === 'RAW' || isServed(destination);
  if (options.shallow && !options.reuseExternal && isRaw && from.top.format !== 'raw') {
    fail('SHALLOW_INTO_RAW', { disk: site.disk.id });
  }
  if (destination.kind === 'nbd') return await nbd(destination, site);
  await checkAllowed(destination.path, site.allowed);
  const place = options.reuseExternal ? await lookAtExisting(destination.path) : await lookAt(destination.path);
  await mustBeWithin(
    place,
    site.allowed,
    place.is === 'DEVICE' || options.reuseExternal ? place.path : destination.path,
  );
  if (place.is === 'FOLDER') throw invalidField('destination.file', 'names a folder; add the name of the file');
  const path = destination.path;
  await refuseSeenOtherwise(place, site.machine);
  if (place.is === 'DEVICE') {
    await refuseUsed(place, site.graphs);
    return await device(spec, place, from, site);
  }
  const mustBeDevice = destination.kind === 'block-device' || destination.mustBeDevice === true;
  const mustBeThere = options.reuseExternal || mustBeDevice;
  if (place.is === 'NOTHING' && mustBeThere) fail('DESTINATION_MISSING', { path });
  if (destination.kind === 'block-device') fail('NOT_A_BLOCK_DEVICE', { path });
  // An existing file stays as it is: a link may lead anywhere. But an empty file counts as absent.
  const isFree = place.is === 'NOTHING' || (place.is === 'FILE' && place.sizeBytes === 0);
  if (!isFree && !options.reuseExternal) fail('DESTINATION_EXISTS', { path });
  if (mustBeDevice) fail('NOT_A_BLOCK_DEVICE', { path });
  if (place.is !== 'NOTHING') await refuseUsed(place, site.graphs);
  if (!options.reuseExternal) return await newFile(spec, place, from, site);
  if (place.is !== 'FILE') throw invalidField('destination.file', 'is neither a regular file nor a block device');
  await withOurErrors(path, async () => await access(place.path, constants.W_OK));
  return await existing(spec, place, from, site);
}

async function newFile(spec: CopySpec, place: Place, from: CopyFrom, site: Site): Promise<CheckedDestination> {
  const { encryption, format = sourceFormat(from.top) } = spec;
  const takeOver = place.is === 'FILE';
  const folder = dirname(place.path);
  const written = takeOver ? place.path : folder;
  await withOurErrors(written, async () => await access(written, constants.W_OK));
  const free = await withOurErrors(place.path, async () => await freeBytes(folder));
  if (free < LEAST_FREE_BYTES) {
    fail('NO_SPACE', { path: place.path, why: `its file system has ${free} bytes left` });
  }
  const { toSet, ...given } = await newFileAccess(place.path, from.top, site);
  const make = { new: 'FILE', takeOver, ...given } as const;
  const storage = { driver: 'file', filename: place.path } as const;
  const backing = await sourceBacking(format, spec, place, from);
  return { path: place.path, plan: { storage, format, encryption, make, ...backing }, toSet: takeOver ? [] : toSet };
}

/** A new image gets the source's backing image if only the active one is copied. */
async function sourceBacking(
  format: ImageFormat,
  { options }: CopySpec,
  place: Place,
  { backing }: CopyFrom,
): Promise<Pick<CopyDestination, 'backing' | 'backingName'>> {
  if (format === 'RAW' || backing === undefined) return {};
  const file = options.relativeBacking ? await relativeTo(place.path, backing.path) : backing.path;
  const node: Backing = { is: 'NODE', node: backing.node };
  return { backing: node, backingName: { file, format: backing.format } };
}

/** Both without symbolic links, or `..` would lead elsewhere. */
async function relativeTo(image: string, backing: string): Promise<string> {
  if (!backing.startsWith('/')) fail('RELATIVE_UNSUPPORTED', { why: `${backing} is not a local file` });
  const folder = await withOurErrors(backing, async () => await realpath(dirname(backing)));
  const name = relative(dirname(image), join(folder, basename(backing)));
  // QEMU takes the text before the first colon for a protocol.
  return /^[^/]*:/.test(name) ? `./${name}` : name;
}

async function device(spec: CopySpec, place: Place, from: CopyFrom, site: Site): Promise<CheckedDestination> {
  const storage = { driver: 'host_device', filename: place.path, ...foundAs(place) } as const;
  const format = spec.format ?? (spec.options.reuseExternal ? undefined : sourceFormat(from.top));
  // A header on it would look like an image to others: only if its reuse was requested.
  if (format === 'QCOW2' && !spec.options.reuseExternal) fail('DESTINATION_EXISTS', { path: place.path });
  if (format !== 'QCOW2') return await existing({ ...spec, format }, place, from, site);
  const header = await readHeader(place.path, place.file);
  if (header.format === 'QCOW2') return await existing(spec, place, from, site);
  const backing = await sourceBacking('QCOW2', spec, place, from);
  const { encryption } = spec;
  return { path: place.path, plan: { storage, format: 'QCOW2', encryption, make: { new: 'HEADER' }, ...backing } };
}

/** An existing destination is used as it is: as raw if the request says so, otherwise only as its header proves. */
async function existing(spec: CopySpec, place: Place, from: CopyFrom, site: Site): Promise<CheckedDestination> {
  const { path } = place;
  const driver = place.is === 'DEVICE' ? 'host_device' : 'file';
  const storage: Storage = { driver, filename: path, ...foundAs(place) };
  const sourceBytes = from.top.virtualSizeBytes;
  const { encryption } = spec;
  if (spec.format === 'RAW') {
    const destinationBytes = wholeSectors(place.sizeBytes);
    checkSizes(path, destinationBytes, sourceBytes);
    return { path, plan: { storage, format: 'RAW', encryption } };
  }
  const header = usableQcow2(path, await readHeader(path, place.file), { encrypted: true });
  refuseOtherEncryption(path, header.encryption, encryption);
  checkSizes(path, header.virtualSizeBytes, sourceBytes);
  if (from.backing === undefined && header.version === 2 && header.backingFile !== '') {
    // Version 2 cannot mark zeroes: after a restart the backing file would show through them.
    fail('FORMAT_UNKNOWN', {
      path,
      format: 'qcow2',
      why: 'version 2 takes no whole copy over a backing file',
    });
  }
  // A whole copy does not need its backing file. But an empty image opened without it reads as zeroes, and if QEMU then
  // skips the zeroes of the source, the backing file shows through when the image is opened by its header.
  const needsChain = from.backing !== undefined || leavesZeroesOut(site.schema);
  const chain = { allowed: site.allowed, source: site.disk.chain };
  const backing = needsChain ? await ownChain(path, header, chain) : undefined;
  return { path, plan: { storage, format: 'QCOW2', encryption, backing } };
}

/** QEMU has to open exactly the file that was looked at. */
function foundAs({ file }: Place): Pick<Place, 'file'> {
  return file === undefined ? {} : { file };
}

/** An encrypted image is opened only with a named secret, and an unencrypted one is never taken for it. */
function refuseOtherEncryption(path: string, is: Qcow2Header['encryption'], asked: Encryption | undefined): void {
  if ((is === 'NONE') === (asked === undefined)) return;
  const [what, wayOut] =
    is === 'NONE'
      ? ['is not encrypted', 'leave its encryption out, or name an encrypted one']
      : ['is encrypted with LUKS', 'name its secret (destination.encryption of StartCopy)'];
  fail('ENCRYPTION_MISMATCH', { path, what, wayOut });
}

function checkSizes(path: string, destinationBytes: number, sourceBytes: number): void {
  if (destinationBytes === sourceBytes) return;
  fail('SIZE_MISMATCH', { path, destinationBytes, sourceBytes });
}

async function nbd({ nbd: asked }: Extract<Destination, { kind: 'nbd' }>, site: Site): Promise<CheckedDestination> {
  const { server } = asked;
  const path = nbdUri(asked);
  let to = asked;
  if (server.kind === 'unix') {
    to = { ...asked, server: { kind: 'unix', path: await socketAt(server.path, site) } };
  } else {
    const isAllowed = site.allowed.nbdServers.some(
      ({ host, port }) => (host === '*' || host === server.host) && (port === undefined || port === server.port),
    );
    if (!isAllowed) fail('DESTINATION_NOT_ALLOWED', { path });
  }
  await expectGreeting(to.server, path);
  const storage = { driver: 'nbd', ...to, opensInTime: boundsNbdOpen(site.schema) } as const;
  return { path, plan: { storage, format: 'RAW' } };
}

/** The target of its name: QEMU gets that path, and no link. Throws DESTINATION_NOT_ALLOWED if it is elsewhere. */
async function socketAt(path: string, { allowed }: Site): Promise<string> {
  await checkAllowed(path, allowed);
  const place = await lookAtExisting(path);
  await mustBeWithin(place, allowed, path);
  return place.path;
}

function sourceFormat({ format, path }: Image): ImageFormat {
  return formatOf(format) ?? fail('FORMAT_UNKNOWN', { format, path, why: GIVE_FORMAT });
}
