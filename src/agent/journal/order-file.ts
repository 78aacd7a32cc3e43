/**
 * The identity of the order of the entries in a state folder. It changes when the clock of the folder may have gone
 * back: earlier positions have no meaning then. Within one boot the clock does not go back, because the file contains
 * the time at which the last service began.
 */
import { constants } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClockStamp } from '../../core/job/journal-entry.ts';
import { isRecord } from '../../lib/record.ts';
import type { HostClock } from '../host/host-clock.ts';
import { PLAIN } from './journal.ts';

const NAME = 'order';
const LONGEST_BYTES = 1000;

/** `folder` is the state folder. If the file cannot be read or written, the order is that of this service alone. */
export async function orderOf(folder: string, clock: HostClock): Promise<string> {
  const path = join(folder, NAME);
  const fresh = crypto.randomUUID().slice(0, 8);
  const known = await read(path).catch(() => undefined);
  if (known !== undefined) clock.learn(known.stamp);
  const stamp = clock.stamp();
  const epoch = known?.stamp.counts === stamp.counts && stamp.counts.trim() !== '' ? known.epoch : fresh;
  try {
    await write(path, JSON.stringify({ epoch, stamp }));
    return epoch;
  } catch {
    return fresh;
  }
}

async function read(path: string): Promise<{ readonly epoch: string; readonly stamp: ClockStamp } | undefined> {
  await using file = await open(path, constants.O_RDONLY | PLAIN);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(LONGEST_BYTES), 0, LONGEST_BYTES, 0);
  const found: unknown = JSON.parse(buffer.toString('utf8', 0, bytesRead));
  if (!isRecord(found) || typeof found['epoch'] !== 'string' || !isRecord(found['stamp'])) return undefined;
  const { ms, upMs, counts } = found['stamp'];
  if (typeof ms !== 'number' || typeof upMs !== 'number' || typeof counts !== 'string') return undefined;
  return { epoch: found['epoch'], stamp: { ms, upMs, counts } };
}

async function write(path: string, text: string): Promise<void> {
  const next = `${path}.new`;
  {
    await using file = await open(next, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | PLAIN, 0o600);
    await file.writeFile(`${text}\n`);
  }
  await rename(next, path);
}
