/**
 * What is written down of a guest that we hold: one small file a VM in `STATE/holds`, which is on disk before its
 * `stop`, and removed when the guest goes on. It is found without any journal.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Hold } from '../../core/job/guest-hold.ts';
import type { QemuProcess } from '../../core/job/journal-entry.ts';
import { isOwn } from '../host/own-files.ts';
import { PLAIN, syncFolder } from './journal.ts';

/** Which VM it is, as a job's journal tells it too. */
export interface HeldVm {
  readonly domain: string;
  readonly uuid: string | undefined;
  /** Undefined: known from a journal alone. */
  readonly socket: string | undefined;
  readonly process: QemuProcess | undefined;
}

export interface HeldGuest extends Hold {
  readonly version: 1;
  /** A pid and its start time tell a process of one boot only. Undefined: not known. */
  readonly boot: string | undefined;
  readonly vm: HeldVm;
}

export interface HoldFile {
  readonly name: string;
  /** Undefined: the disk or a person has changed it; that a guest was held is known all the same. */
  readonly held: HeldGuest | undefined;
}

/** The socket's part is known also where the rest cannot be read. */
export function nameOf({ socket, uuid, domain, process }: HeldVm): string {
  return `${socketPart(socket ?? uuid ?? domain)}-${process?.pid ?? 0}.json`;
}

export function isNamedAfter(name: string, socket: string): boolean {
  return name.startsWith(`${socketPart(socket)}-`);
}

function socketPart(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Undefined: there is no such folder yet, and so no service that keeps one has been here. */
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
    // Read from a file, it may be any: an older or a newer service wrote it.
    const version: number = read.version;
    const isWhole = version === 1 && Array.isArray(read.holders) && typeof read.vm.domain === 'string';
    return isWhole ? read : undefined;
  } catch {
    return undefined;
  }
}

/** Makes the folder with all that it is to hold, or not at all. */
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
  // Under another name until it is whole and on disk: what is found is what was written, or what was there before.
  const next = `${path}.new`;
  const file = await open(next, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(held)}\n`);
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(next, path);
  await syncFolder(folder);
}

export async function removeHold(folder: string, name: string): Promise<void> {
  await rm(join(folder, name), { force: true });
}
