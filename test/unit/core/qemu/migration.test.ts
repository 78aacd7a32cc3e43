import { expect, it } from 'vitest';
import { migrationOf } from '../../../../src/core/qemu/guest-state.ts';

it.each([
  ['a guest that has never migrated', 'running', undefined, undefined],
  ['one that is paused', 'paused', 'none', undefined],
  ['one that has arrived', 'running', 'completed', undefined],
  ['one that stayed, as its migration failed', 'running', 'failed', undefined],
  ['one that stayed, as its migration was cancelled', 'running', 'cancelled', undefined],
  ['one that is about to leave', 'running', 'setup', 'setup'],
  ['one whose memory is being sent', 'running', 'active', 'active'],
  ['one that is paused meanwhile', 'paused', 'active', 'active'],
  ['one that has stopped for it', 'finish-migrate', 'device', 'finish-migrate'],
  ['one whose memory is sent behind it', 'postmigrate', 'postcopy-active', 'postmigrate'],
  ['one that has left', 'postmigrate', 'completed', 'postmigrate'],
  ['one that has not arrived', 'inmigrate', undefined, 'inmigrate'],
  ['one in a state of a migration that is newer than this', 'running', 'teleporting', 'teleporting'],
])('%s: %s, %s', (_what, runState, status, migration) => {
  expect(migrationOf(runState, status)).toBe(migration);
});
