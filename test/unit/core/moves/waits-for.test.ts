/** The reason why a requested end is not done. */
import { expect, it } from 'vitest';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { Asked, Seen } from '../../../../src/core/moves/moves.ts';
import { waitsFor } from '../../../../src/core/moves/waits-for.ts';
import { CANCEL, CONCLUDED, ended, HELD, jobOf, pivot, READY, RUNNING, SEEN_AT } from '../stories.ts';

const job = {
  status: 'ready',
  error: undefined,
  ioStatus: 'ok',
  paused: false,
  speedBytesPerSecond: 0,
  remainingBytes: 0,
  copiedBytes: 0,
  begun: true,
} as const;
const UP: Extract<Seen, { qemu: 'UP' }> = {
  qemu: 'UP',
  at: SEEN_AT,
  job,
  deviceOn: 'SOURCE',
  devicePath: undefined,
  guestRuns: true,
  guestMigrates: false,
};
const LEFT: Seen = { ...UP, job: { ...job, remainingBytes: 4096 } };
const PAUSED: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
const NOTHING: Asked = new Set();
const COMPLETE: Asked = new Set(['complete']);
const FENCED: Asked = new Set(['fenced']);
const pivoting = (...more: readonly EntryBody[]): Job => jobOf(RUNNING, READY, pivot(), ...more);

it.each<[Job, Seen, Asked, RegExp]>([
  [jobOf(RUNNING), LEFT, NOTHING, /^$/],
  [jobOf(RUNNING, READY), LEFT, NOTHING, /^$/],
  [pivoting(CONCLUDED, ended('COMPLETED')), UP, NOTHING, /^$/],
  [pivoting(), { qemu: 'SILENT' }, NOTHING, /^an answer of QEMU$/],
  [pivoting(), { qemu: 'ENDED' }, NOTHING, /^$/],
  [pivoting(PAUSED), LEFT, NOTHING, /paused: NO_SPACE$/],
  [pivoting(), { ...UP, guestMigrates: true }, NOTHING, /migration/],
  [jobOf(RUNNING, READY, CANCEL), { ...LEFT, guestMigrates: true }, NOTHING, /^the remaining data$/],
  [pivoting(), LEFT, FENCED, /^the permission to move the guest/],
  [pivoting(), LEFT, NOTHING, /^the remaining data$/],
  [pivoting(HELD), LEFT, NOTHING, /^the remaining data, with the guest paused$/],
  [pivoting(HELD), UP, COMPLETE, /^QEMU, which ends the job$/],
  [pivoting(CONCLUDED), UP, COMPLETE, /^QEMU to close/],
  [pivoting(), UP, NOTHING, /^$/],
])('case %#', (its, seen, asked, words) => {
  expect(waitsFor(its, seen, asked)).toMatch(words);
});
