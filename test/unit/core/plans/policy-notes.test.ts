/** The notes of a plan on an end policy, and on what it has chosen. */
import { expect, it } from 'vitest';
import { etagOf } from '../../../../src/agent/starts/planned-job.ts';
import type { EndPolicy, WriteMode } from '../../../../src/core/job-options.ts';
import { notesOf } from '../../../../src/core/plans/notes.ts';
import { ACCEPTED, OPTIONS, POLICY } from '../stories.ts';

const REQUEST = { disk: { domain: 'vm1', disk: 'vd0' }, requestId: '', validateOnly: true, planEtag: '', accept: [] };

function notes(policy: Partial<EndPolicy>, writeMode: WriteMode = 'BACKGROUND'): string {
  const options = { ...OPTIONS, writeMode, endPolicy: { ...POLICY, ...policy } };
  return notesOf({ ...ACCEPTED, options }, REQUEST).join('; ');
}

it('a plan says what a switch to BLOCKING changes, unless the copy is BLOCKING', () => {
  expect(notes({ switchToBlocking: true })).toContain('may switch to write mode BLOCKING');
  expect(notes({ switchToBlocking: true }, 'BLOCKING')).toBe('');
  expect(notes({})).toBe('');
});

it('a plan says that the guest may be paused, and for how long', () => {
  expect(notes({ atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 1500 })).toContain('for at most 1.5 seconds');
});

it('a plan says which granularity is chosen, and why; more writes of the guest do not change its etag', () => {
  const chosen = { granularityBytes: 4096, writeBytes: 4100, writes: 999 };
  expect(notesOf({ ...ACCEPTED, granularity: chosen }, REQUEST).join('; ')).toContain(
    'chooses granularity_bytes 4096: the guest’s 999 writes since QEMU began have 4100 bytes on average',
  );
  const etag = etagOf({ ...ACCEPTED, granularity: chosen });
  expect(etagOf({ ...ACCEPTED, granularity: { ...chosen, writes: 1000 } })).toBe(etag);
  const other = { ...ACCEPTED, options: { ...OPTIONS, granularityBytes: 8192 } };
  expect(etagOf({ ...other, granularity: chosen })).not.toBe(etag);
});
