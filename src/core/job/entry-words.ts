/** An entry of the journal as one line for people, in GetInfo's history and in the watch. */

import type { Accepted, JournalEntry } from './journal-entry.ts';
import type { PolicyStep } from './policy-step.ts';
import type { SpaceTold } from './space-told.ts';
import { throttleEntryInWords } from './throttle-told.ts';
import { verdictInWords } from './verdict-words.ts';

export function entryInWords(entry: JournalEntry): string {
  switch (entry.entry) {
    case 'accepted':
      return `${entry.recovered ? 'found in QEMU, its journal is lost' : 'accepted'}: ${acceptedInWords(entry)}`;
    case 'step-started':
      return `step ${entry.step} started`;
    case 'step-done':
      return `step ${entry.step} done`;
    case 'step-refused':
      return `step ${entry.step} refused: ${entry.failure.text}`;
    case 'step-unknown':
      return `step ${entry.step}: no answer, it may have happened: ${entry.failure.text}`;
    case 'undo-started':
      return `undo of ${entry.step} started`;
    case 'undo-done':
      return `undo of ${entry.step} done`;
    case 'undo-failed':
      return `undo of ${entry.step} failed: ${entry.failure.text}`;
    case 'refused':
      return `refused and undone: ${entry.failure.text}`;
    case 'running':
      return 'QEMU runs the job';
    case 'ready':
      return 'ready: the destination has caught up, and each guest write goes to both sides';
    case 'paused':
      return `paused: ${entry.reason}`;
    case 'resumed':
      return 'resumed';
    case 'space':
      return spaceInWords(entry);
    case 'pause-requested':
      return 'pause requested';
    case 'resume-requested':
      return 'resume requested';
    case 'speed-requested':
      return `limit requested: ${limitInWords(entry.bandwidthBytesPerSecond)}`;
    case 'change-refused':
      return `${NOT_CHANGED[entry.change]}: ${entry.failure.text}`;
    case 'policy-step':
      return policyStepInWords(entry);
    case 'write-mode':
      return 'each guest write waits for the destination now (write mode BLOCKING)';
    case 'asked-again':
      return 'requested again; nothing had to change';
    case 'speed':
      return `limit: ${limitInWords(entry.bandwidthBytesPerSecond)}`;
    case 'gate-opened':
      return 'a pivot needs the record of the owner of the VM’s configuration';
    case 'config-recorded':
      return 'the owner of the VM’s configuration has recorded the new path';
    case 'pivot-requested':
      return entry.token === undefined ? 'pivot requested' : 'pivot requested, and the new path is recorded';
    case 'cancel-requested':
      if (entry.destinationMoved) return 'cancel requested: the destination is no longer at its name';
      if (entry.timeIsUp) return 'cancel requested: the time limit has expired';
      if (entry.connectionBroken) return 'cancel requested: the connection to its destination was broken';
      return entry.force ? 'cancel requested, by force' : 'cancel requested';
    case 'give-up-requested':
      return 'the clean-up in QEMU is not waited for if QEMU stays silent';
    case 'finish-requested':
      return 'ready, and ending without a pivot as requested';
    case 'followed':
      return `the destination has all that the guest wrote until ${entry.seenAt}`;
    case 'verdict':
      return verdictInWords(entry);
    case 'throttle-requested':
    case 'throttled':
    case 'throttle-lifted':
    case 'throttle-not-taken':
      return throttleEntryInWords(entry);
    case 'guest-held':
      return `guest paused briefly: ${entry.because}`;
    case 'guest-released':
      return 'guest resumed';
    case 'flushed':
      return entry.what === 'DATA'
        ? 'the moved data is on stable storage, before the old images are dropped'
        : 'the header that drops the old images is on stable storage';
    case 'flush-failed':
      return `not known to be on stable storage: ${entry.failure.text}`;
    case 'concluded':
      return concludedInWords(entry);
    case 'ended':
      return `${entry.state}${entry.failure === undefined ? '' : `: ${entry.failure.text}`}`;
  }
}

const NOT_CHANGED = {
  SPEED: 'the limit does not change',
  PAUSE: 'pause and resume are not done',
  WRITE_MODE: 'the write mode does not change',
};

export function policyStepInWords({ what, because, bandwidthBytesPerSecond = 0 }: PolicyStep): string {
  const steps = {
    LIMIT: `lifts the limit to ${limitInWords(bandwidthBytesPerSecond)}`,
    BLOCKING: 'switches to write mode BLOCKING',
    HOLD: 'goes on',
    PAUSE_GUEST: 'pauses the guest for the rest',
  };
  return `end policy: ${steps[what]}, because ${because}`;
}

function spaceInWords({ level, freeBytes, neededBytes }: SpaceTold): string {
  if (freeBytes === undefined) return 'space: not known, trying again';
  const numbers = `${freeBytes} bytes free, ${neededBytes} needed for the rest`;
  const words = { ENOUGH: 'enough', LOW: 'low', FULL: 'used up' };
  return `space at the destination ${words[level]}: ${numbers}`;
}

function acceptedInWords({ kind, source, destination, options }: Accepted): string {
  switch (kind) {
    case 'COPY':
      return `copy ${source.path} to ${destination?.path}`;
    case 'PULL':
      return `pull into ${source.path} ${options.basePath === '' ? 'its whole chain' : `what is above ${options.basePath}`}`;
    case 'COMMIT':
    case 'ACTIVE_COMMIT':
      return `commit ${options.topPath} into ${options.basePath}`;
  }
}

function limitInWords(bytesPerSecond: number): string {
  return bytesPerSecond === 0 ? 'none' : `${bytesPerSecond} bytes per second`;
}

function concludedInWords(entry: Extract<JournalEntry, { entry: 'concluded' }>): string {
  const how = {
    CONCLUDED: 'QEMU concluded the job',
    VANISHED: 'the job is gone',
    QEMU_ENDED: 'QEMU has ended',
    GIVEN_UP: 'QEMU does not answer, and the job is given up',
  };
  const error = entry.qemuError === undefined ? '' : `: ${entry.qemuError}`;
  const place = entry.devicePath === undefined ? '' : `; the guest's device is on ${entry.devicePath}`;
  return `${how[entry.how]}${error}${place}${headerInWords(entry)}`;
}

function headerInWords({ header }: Extract<JournalEntry, { entry: 'concluded' }>): string {
  if (header === undefined) return '';
  switch (header.is) {
    case 'NEW':
      return '; read back from disk, the old images are dropped';
    case 'OLD':
      return `; read back from disk, the header names ${header.backingFile || 'no image'}`;
    case 'UNKNOWN':
      return `; the header could not be read back: ${header.why}`;
  }
}
