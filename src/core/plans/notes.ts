/** Notes of a plan: effects that its steps do not show. */

import type { Accepted } from '../job/journal-entry.ts';
import { onShared } from '../job/outcome.ts';
import { isGated } from '../job/pivot-gate.ts';
import { willBeReused } from '../job/reuse.ts';
import { spaceForStart } from '../job/space.ts';
import { type JobOptions, LEAST_BUFFER_BYTES } from '../job-options.ts';
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
  if (isGated({ accepted })) {
    notes.push('a pivot waits until the owner of the VM’s configuration has recorded the new path (config_owner)');
  }
  if (holdsWithoutBound === true) {
    notes.push('this QEMU has no yank: if the NBD server hangs while the guest is paused, the guest waits for it');
  }
  if (destination?.encryption !== undefined && plan.some(({ name }) => name === 'format-destination')) {
    notes.push(
      'QEMU first derives the key of the new image: its monitor and the guest’s I/O stop for about three seconds; ' +
        'reusing an image that qemu-img made before avoids that',
    );
  }
  if (bufferBytes > 0n && bufferBytes < LEAST_BUFFER_BYTES) {
    notes.push(
      `buffer_bytes ${bufferBytes} is raised to ${LEAST_BUFFER_BYTES}: with less, QEMU can abort, and the guest with it`,
    );
  }
  if (accepted.granularity !== undefined) {
    const { granularityBytes, writeBytes, writes } = accepted.granularity;
    notes.push(
      `chooses granularity_bytes ${granularityBytes}: the guest’s ${writes} writes since QEMU began have ${writeBytes} bytes on average (choose_granularity)`,
    );
  }
  notes.push(...policyNotes(options));
  if (accepted.space !== undefined) {
    const { freeBytes, neededBytes } = accepted.space;
    const lacks = spaceForStart(accepted.space) > freeBytes;
    const then = lacks ? `, where ${freeBytes} are free: the job waits when the space is used up` : '';
    notes.push(`needs about ${neededBytes} bytes at the destination${then}`);
  }
  for (const { path, sharedStorage } of options.deleteCommitted ? committed : []) {
    if (sharedStorage !== undefined) notes.push(`deletes ${path}; ${onShared(sharedStorage)}`);
  }
  return [...notes, ...toSet];
}

/** The effects of an end policy that a caller may not expect. */
function policyNotes({ endPolicy, writeMode }: JobOptions): readonly string[] {
  const { switchToBlocking = false, atDeadline, maxGuestPauseMs = 0 } = endPolicy ?? {};
  return [
    ...(switchToBlocking && writeMode === 'BACKGROUND'
      ? [
          'may switch to write mode BLOCKING (switch_to_blocking): so the job is paused, and does not fail, if a disk fails',
        ]
      : []),
    ...(atDeadline === 'PAUSE_GUEST'
      ? [`pauses the guest for at most ${maxGuestPauseMs / 1000} seconds if the time limit expires (at_deadline)`]
      : []),
  ];
}
