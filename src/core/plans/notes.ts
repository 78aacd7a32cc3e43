/** What a plan is read for that its steps do not tell. */
import { LEAST_BUFFER_BYTES } from '../job-options.ts';
import type { Accepted } from '../journal-entry.ts';
import type { CopyRequest, StartRequest } from '../requests.ts';

export function notesOf(
  { destination, pauseGuestBecause, holdsWithoutBound, losses = [], toSet = [] }: Accepted,
  { bufferBytes = 0n }: StartRequest & Partial<Pick<CopyRequest, 'bufferBytes'>>,
): readonly string[] {
  const notes = losses.map(({ accept, path, text }) => `${accept} is accepted: ${path} ${text}`);
  if (pauseGuestBecause !== undefined && destination !== undefined) {
    notes.push(`pauses the guest for the pivot: ${pauseGuestBecause}`);
  }
  if (holdsWithoutBound === true) {
    notes.push('this QEMU has no yank: should the NBD server hang while the guest is paused, the guest waits for it');
  }
  if (bufferBytes > 0n && bufferBytes < LEAST_BUFFER_BYTES) {
    notes.push(
      `buffer_bytes ${bufferBytes} is raised to ${LEAST_BUFFER_BYTES}: with less QEMU can end itself, and the guest`,
    );
  }
  return [...notes, ...toSet];
}
