/** What a plan is read for that its steps do not tell. */

import type { Accepted } from '../job/journal-entry.ts';
import { onShared } from '../job/outcome.ts';
import { willBeReused } from '../job/reuse.ts';
import { LEAST_BUFFER_BYTES } from '../job-options.ts';
import type { CopyRequest, StartRequest } from '../requests.ts';

export function notesOf(
  accepted: Accepted,
  { bufferBytes = 0n }: StartRequest & Partial<Pick<CopyRequest, 'bufferBytes'>>,
): readonly string[] {
  const { destination, pauseGuestBecause, holdsWithoutBound, plan, committed, options } = accepted;
  const { losses = [], toSet = [] } = accepted;
  const taken = willBeReused(accepted);
  const notes = losses.map(({ accept, path, text }) => `${accept} is accepted: ${path} ${text}`);
  if (taken !== undefined) notes.push(taken);
  if (pauseGuestBecause !== undefined && destination !== undefined) {
    notes.push(`pauses the guest for the pivot: ${pauseGuestBecause}`);
  }
  if (holdsWithoutBound === true) {
    notes.push('this QEMU has no yank: should the NBD server hang while the guest is paused, the guest waits for it');
  }
  if (destination?.encryption !== undefined && plan.some(({ name }) => name === 'format-destination')) {
    notes.push(
      'QEMU makes the key of the new image first: its monitor and the guest’s I/O stand still for about three seconds; ' +
        'an image that qemu-img has made before, and that is reused, avoids that',
    );
  }
  if (bufferBytes > 0n && bufferBytes < LEAST_BUFFER_BYTES) {
    notes.push(
      `buffer_bytes ${bufferBytes} is raised to ${LEAST_BUFFER_BYTES}: with less QEMU can end itself, and the guest`,
    );
  }
  for (const { path, sharedStorage } of options.deleteCommitted ? committed : []) {
    if (sharedStorage !== undefined) notes.push(`deletes ${path}; ${onShared(sharedStorage)}`);
  }
  return [...notes, ...toSet];
}
