/**
 * The record of a guest that this service holds: one small file per VM in `STATE/holds`, which is on disk before its
 * `stop`, and removed when the guest is resumed. It is found without any journal.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Hold } from '../../core/job/guest-hold.ts';
import type { QemuProcess } from '../../core/job/qemu-identity.ts';
import { isOwn } from '../host/own-files.ts';
import { PLAIN, syncFolder } from './journal.ts';

/** The VM, as in a job's journal. */
export interface HeldVm {
  readonly domain: string;
  readonly uuid: string | undefined;
  /** Undefined if it is known from a journal alone. */
  readonly socket: string | undefined;
  readonly process: QemuProcess | undefined;
}

export interface HeldGuest extends Hold {
  readonly version: 1;
  /** A pid and its start time identify a process within one boot only. Undefined if it is not known. */
  readonly boot: string | undefined;
  readonly vm: HeldVm;
}

export interface HoldFile {
  readonly name: string;
  /** Undefined if the disk or a person has changed it; that a guest was held is known nevertheless. */
  readonly held: HeldGuest | undefined;
}

/** The socket is known even if the rest cannot be read. */
export function nameOf({ socket, uuid, domain, process }: HeldVm): string {
  return `${socketPart(socket ?? uuid ?? domain)}-${process?.pid ?? 0}.json`;
}

export function isNamedAfter(name: string, socket: string): boolean {
  return name.startsWith(`${socketPart(socket)}-`);
}

function socketPart(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Undefined if the folder does not exist yet, so that no service with such files has run here. */
export async function readHolds(folder: string): Promise<readonly HoldFile[] | undefined> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
  const files = names?.filter((name) => name.endsWith('.json'));
  return files && (await Promise.all(files.map(async (name) => ({ name, held: await readHold(join(folder, name)) }))));
}

async function readHold(path: string): Promise<HeldGuest | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | PLAIN);
    const read = isOwn(await file.stat()) ? (JSON.parse(await file.readFile('utf8')) as HeldGuest) : undefined;
    if (read === undefined) return undefined;
    // A file may be of another version: an older or a newer service wrote it.
    const version: number = read.version;
    const isWhole = version === 1 && Array.isArray(read.holders) && typeof read.vm.domain === 'string';
    // Absent in the file of a service that did not pause jobs.
    return isWhole ? { ...read, pausedJobs: Array.isArray(read.pausedJobs) ? read.pausedJobs : [] } : undefined;
  } catch {
    return undefined;
  }
}

/** Makes the folder with all of its contents, or not at all. */
export async function makeHolds(folder: string, held: readonly HeldGuest[]): Promise<void> {
  const next = `${folder}.new`;
  await rm(next, { recursive: true, force: true });
  await mkdir(next, { recursive: true, mode: 0o700 });
  for (const one of held) await writeHold(next, one);
  await rename(next, folder);
  await syncFolder(dirname(folder));
}

export async function writeHold(folder: string, held: HeldGuest): Promise<void> {
  const path = join(folder, nameOf(held.vm));
  // It has another name until it is complete and on disk: a reader finds the new file, or the previous one.
  const next = `${path}.new`;
  {
    await using file = await open(next, 'w', 0o600);
    await file.writeFile(`${JSON.stringify(held)}\n`);
    await file.datasync();
  }
  await rename(next, path);
  await syncFolder(folder);
}

export async function removeHold(folder: string, name: string): Promise<void> {
  await rm(join(folder, name), { force: true });
}
