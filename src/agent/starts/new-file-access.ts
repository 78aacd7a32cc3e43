/** Owner, mode and labels of a new file for QEMU: those of the source, and those that only the VM's manager can set. */
import type { Image } from '../../core/disk/chain.ts';
import { accessOfNew, type FileAccess, type FileUser, type NewFileAccess } from '../../core/plans/file-access.ts';
import { lstat } from '../host/disk-files.ts';
import { shown } from '../host/proc.ts';
import type { Site } from './site.ts';

const MODE_BITS = 0o777n;

export async function newFileAccess(path: string, source: Image, site: Site): Promise<NewFileAccess> {
  const { facts } = site.identity;
  const pid = facts?.process.pid;
  const qemu = facts && { ...facts.owner, groups: groupsOf(pid) };
  const sourceAccess = await accessOf(site);
  const access = accessOfNew({ path, source: source.path, sourceAccess, qemu, service: ourselves() });
  const label = pid === undefined ? undefined : labelOf(pid);
  return {
    ...access,
    toSet: [...access.toSet, ...(label === undefined ? [] : [labelToSet(label, path, source.path)])],
  };
}

async function accessOf({ sourceFile }: Site): Promise<FileAccess | undefined> {
  const stats = sourceFile && (await lstat(sourceFile.path).catch(() => undefined));
  // The owner of a device is not that of an image.
  if (stats?.isFile() !== true) return undefined;
  return { uid: Number(stats.uid), gid: Number(stats.gid), mode: Number(stats.mode & MODE_BITS) };
}

function ourselves(): FileUser {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups: process.getgroups?.() ?? [] };
}

function groupsOf(pid: number | undefined): readonly number[] {
  const status = shown(`/proc/${pid}/status`) ?? '';
  const groups = /^Groups:(.*)$/m.exec(status)?.[1] ?? '';
  return groups.trim() === '' ? [] : groups.trim().split(/\s+/).map(Number);
}

export interface Label {
  readonly by: 'SELinux' | 'AppArmor';
  readonly text: string;
}

/** The confinement of a process besides its user; undefined if there is none, or /proc does not show it. */
export function labelOf(pid: number, proc = '/proc'): Label | undefined {
  const current = shown(`${proc}/${pid}/attr/current`) ?? '';
  const text = current.replace(/[\0\n]+$/, '');
  if (/^[^:\s]+:[^:\s]+:[^:\s]+/.test(text))
    return text.includes(':unconfined_t:') ? undefined : { by: 'SELinux', text };
  return text.endsWith(' (enforce)') ? { by: 'AppArmor', text } : undefined;
}

function labelToSet({ by, text }: Label, path: string, source: string): string {
  return by === 'SELinux'
    ? `SELinux confines QEMU (${text}): give ${path} the label of ${source} (chcon --reference)`
    : `AppArmor confines QEMU (${text}): its profile has to allow ${path}, too`;
}
