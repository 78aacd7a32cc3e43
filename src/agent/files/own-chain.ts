/**
 * The chain that a reused destination has of its own. It is opened before the copy begins, image by image, each with
 * the driver that its overlay names and with its backing image given: QEMU never opens the file that a header names, so
 * that the writer of a header cannot name a file outside the allowed folders.
 */
import type { Image } from '../../core/disk/chain.ts';
import { resolveFrom } from '../../core/disk/chain-images.ts';
import { STORAGES } from '../../core/disk/drivers.ts';
import { type Qcow2Header, READ_ONLY_DRIVERS } from '../../core/disk/image-header.ts';
import { fail } from '../../core/errors.ts';
import type { Backing } from '../../core/plans/copy-ends.ts';
import { fileKey } from './files.ts';
import { type Allowed, checkAllowed, lookAtExisting, mustBeWithin, readHeader } from './place.ts';

/** QEMU is slow with deeper chains, too. */
const DEEPEST = 200;

export interface OwnChainOptions {
  readonly allowed: Allowed;
  /** The disk's own chain, its active image first: images in both chains are shared. */
  readonly source: readonly Image[];
}

/** The image below `path`, by its header; undefined if there is none. */
export async function ownChain(
  path: string,
  header: Qcow2Header,
  options: OwnChainOptions,
): Promise<Backing | undefined> {
  const source = await Promise.all(
    // Opened by its name alone it has other contents than such a node.
    options.source.map(async ({ path: one, isPart, layers }, at) =>
      at > 0 && (isPart || layers.length > 0) ? '' : await fileKey(one),
    ),
  );
  return await below(path, header, new Set([await fileKey(path)]), source, options);
}

async function below(
  image: string,
  { backingFile, backingFormat }: Qcow2Header,
  above: ReadonlySet<string>,
  source: readonly string[],
  options: OwnChainOptions,
): Promise<Backing | undefined> {
  if (backingFile === '') return undefined;
  const named = resolveFrom(image, backingFile);
  if (named === undefined) fail('DESTINATION_NOT_ALLOWED', { path: backingFile });
  await checkAllowed(named, options.allowed).catch(async (error: unknown) => {
    // An image of the disk itself is already the guest's.
    if (!source.includes(await fileKey(named))) throw error;
  });
  const place = await lookAtExisting(named).catch(() => fail('DESTINATION_MISSING', { path: named }));
  const { path, is, file } = place;
  if (is === 'NOTHING' || is === 'LINK') fail('DESTINATION_MISSING', { path: named });
  const key = await fileKey(path);
  const shared = source.indexOf(key);
  if (shared === 0) fail('DESTINATION_IN_USE', { path, by: 'it is the disk itself, which cannot back its own copy' });
  const own = options.source[shared];
  if (own !== undefined) {
    // QEMU has the right image, but the destination is opened by its header next time.
    const isSame = backingFormat === '' || backingFormat === (STORAGES.has(own.format) ? 'raw' : own.format);
    if (!isSame) no(path, `the header of ${image} says ${backingFormat}, but it is ${own.format}`);
    return { is: 'NODE', node: own.node };
  }
  await mustBeWithin(place, options.allowed, path);
  if (above.has(key)) no(path, 'the chain leads back to it');
  if (above.size > DEEPEST) no(path, `it has more than ${DEEPEST} images`);
  if (is !== 'FILE' && is !== 'DEVICE') no(path, 'it is neither a file nor a block device');
  // Probing could find anything that a guest wrote there.
  if (backingFormat === '') no(path, `the header of ${image} does not name its format`);
  if (!READ_ONLY_DRIVERS.has(backingFormat)) no(path, `the header of ${image} says ${backingFormat}`);
  const storage = is === 'FILE' ? 'file' : 'host_device';
  const found = { is: 'IMAGE', path, storage, ...(file && { file }) } as const;
  if (backingFormat !== 'qcow2') return { ...found, driver: backingFormat, below: undefined };
  const header = usableQcow2(path, await readHeader(path, file));
  const under = await below(path, header, new Set([...above, key]), source, options);
  return { ...found, driver: 'qcow2', below: under };
}

function no(path: string, why: string): never {
  fail('CHAIN_UNUSABLE', { path, why });
}

export const GIVE_FORMAT = 'give the destination a format: RAW or QCOW2';

/** Throws FORMAT_UNKNOWN for anything but a plain qcow2, or with `encrypted` one with LUKS. */
export function usableQcow2(
  path: string,
  header: Awaited<ReturnType<typeof readHeader>>,
  mayBe: { readonly encrypted?: true } = {},
): Qcow2Header {
  const not = (why: string, format = 'qcow2') => fail('FORMAT_UNKNOWN', { path, format, why });
  switch (header.format) {
    case 'NONE':
      return not(`its header does not say it; ${GIVE_FORMAT}`, 'unknown');
    case 'OTHER':
      return not(GIVE_FORMAT, header.name);
    case 'DAMAGED':
      return not(`it is damaged: ${header.why}`);
    case 'QCOW2':
      // QEMU would open the file that the header names.
      if (header.externalData) return not('it has an external data file');
      if (header.encryption === 'NONE' || (header.encryption === 'LUKS' && mayBe.encrypted)) return header;
      return not(`it is encrypted with ${header.encryption}`);
  }
}
