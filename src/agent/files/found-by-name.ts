/**
 * The images by whose names alone the disk is opened after a job: each must be at its name, as QEMU finds it, and each
 * header must lead to the image that QEMU has below it. Otherwise the guest would keep running, and its disk would not
 * start again.
 */
import type { Image } from '../../core/disk/chain.ts';
import { fileNamed, namesFormat } from '../../core/disk/chain-images.ts';
import { isMisnamed } from '../../core/disk/kinds.ts';
import { fail } from '../../core/errors.ts';
import type { KnownFile } from '../../core/job/step.ts';
import { stat } from '../host/disk-files.ts';
import { identify, identityOf, inRoot } from '../host/file-identity.ts';
import { isOpen, type OpenFiles, soughtAs } from '../host/open-files.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { knownAs } from './files.ts';
import { namedFiles } from './known-file.ts';

/** `images`: top down. `relinked`: the job writes its header. Throws HEADER_DIFFERS, or PATH_DIFFERS_IN_QEMU. */
export async function foundByName(
  images: readonly Image[],
  { relinked, machine }: { readonly relinked?: Image; readonly machine: VirtualMachine },
): Promise<readonly KnownFile[]> {
  const opens = machine.openFiles();
  // If /proc does not show them, QEMU's word decides.
  const files =
    opens === undefined ? await namedFiles(images, machine) : await provedFiles(images, relinked, opens, machine.name);
  await refuseOtherHeaders(images, relinked, opens?.root ?? '');
  return files;
}

async function provedFiles(
  images: readonly Image[],
  relinked: Image | undefined,
  opens: OpenFiles,
  domain: string,
): Promise<readonly KnownFile[]> {
  const files = images.map(async (image) => {
    // Its header is read back here, under this name.
    const root = image === relinked ? '' : opens.root;
    // A name that QEMU does not report completely cannot be looked up.
    const paths = [image.path, image.dataFile].filter((path) => path.startsWith('/') && !isMisnamed(path));
    const known = paths.map(
      async (path) => await proved(path, { ...opens, root }, { domain, isRead: image === relinked }),
    );
    return (await Promise.all(known)).flat();
  });
  return (await Promise.all(files)).flat();
}

interface Proving {
  readonly domain: string;
  /** This service has to read it. */
  readonly isRead: boolean;
}

/** As a process with that root finds it. Resolves to nothing if only QEMU may look, for example on NFS with root squash. */
async function proved(path: string, opens: OpenFiles, { domain, isRead }: Proving): Promise<readonly KnownFile[]> {
  try {
    const there = await inRoot(opens.root, path);
    const stats = await stat(there);
    if (await isOpen(opens, await soughtAs(await identityOf(stats), there))) return [knownAs(path, stats)];
  } catch (error) {
    if (!isRead && error instanceof Error && 'code' in error && error.code === 'EACCES') return [];
  }
  return fail('PATH_DIFFERS_IN_QEMU', { path, domain });
}

async function refuseOtherHeaders(images: readonly Image[], relinked: Image | undefined, root: string): Promise<void> {
  for (const [at, image] of images.entries()) {
    if (image === relinked) continue;
    const below = images[at + 1];
    const { path, node, backingFile } = image;
    if (await leadsTo(image, below, root)) continue;
    const says = backingFile === '' ? 'no backing file' : `${backingFile}${withFormat(image)}`;
    const has = below === undefined ? 'nothing' : `${below.path} as ${below.format}`;
    fail('HEADER_DIFFERS', { path, node, says, has });
  }
}

function withFormat({ backingFormat }: Image): string {
  return backingFormat === '' ? '' : ` as ${backingFormat}`;
}

async function leadsTo(image: Image, below: Image | undefined, root: string): Promise<boolean> {
  if (below === undefined || image.backingFile === '') return below === undefined && image.backingFile === '';
  if (!namesFormat(image, below)) return false;
  const named = fileNamed(image);
  // Whether two names are one cannot be known for remote files.
  if (named === undefined || !below.path.startsWith('/') || named === below.path) return true;
  const [one, other] = await Promise.all([identify(named, root), identify(below.path, root)]);
  return one !== undefined && one.key === other?.key;
}
