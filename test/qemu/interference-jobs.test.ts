// The expected result differs between the rows of the table.
/* oxlint-disable vitest/no-conditional-expect */
/** Actions of other clients of QEMU on a job: the job ends as they made it, at once, and says what is true now. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  DestinationContent,
  Evidence_Source,
  type Job,
  Job_State,
  PauseGuest,
} from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf, journalEntries, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId, refused } from '../support/service/caller.ts';

const SLOW = 65_536n;
const SOON_MS = 20_000;
const BANDWIDTH = CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES;

type Kind = 'copy' | 'pull' | 'commit' | 'active commit';
type Content = 'PARTIAL' | 'COMPLETE' | 'STALE' | 'UNKNOWN' | 'UNSPECIFIED';

type At = 'RUNNING' | 'READY' | 'PIVOTING' | 'CANCELLING';
type State = 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';

/** `does`: one action after the other, each after the end of the earlier one; `unseen`: the service cannot look. */
type Row = readonly [kind: Kind, at: At, does: string, ends: `${State}, ${Content}`, why?: RegExp];

const ENDED = /another client ended it without a pivot/;
const CANCELLED = /another client cancelled it/;
const DISMISSED = /another client dismissed it/;

const ROWS: readonly Row[] = [
  ['copy', 'RUNNING', 'job-cancel', 'CANCELLED, PARTIAL', CANCELLED],
  ['copy', 'RUNNING', 'block-job-cancel', 'CANCELLED, PARTIAL', CANCELLED],
  ['copy', 'RUNNING', 'job-cancel, job-dismiss, unseen', 'FAILED, UNKNOWN', DISMISSED],
  ['copy', 'READY', 'block-job-cancel', 'CANCELLED, COMPLETE', ENDED],
  ['copy', 'READY', 'job-cancel', 'CANCELLED, STALE', CANCELLED],
  ['copy', 'READY', 'job-complete', 'COMPLETED, COMPLETE'],
  ['copy', 'READY', 'block-job-complete', 'COMPLETED, COMPLETE'],
  // The graph proves the unseen end.
  ['copy', 'READY', 'job-complete, job-dismiss, unseen', 'COMPLETED, COMPLETE'],
  // The guest may have been on the copy, and have come back.
  ['copy', 'READY', 'block-job-cancel, job-dismiss, unseen', 'FAILED, UNKNOWN', DISMISSED],
  ['copy', 'PIVOTING', 'job-cancel', 'CANCELLED, STALE', CANCELLED],
  ['copy', 'PIVOTING', 'job-pause, faster', 'COMPLETED, COMPLETE'],
  ['copy', 'CANCELLING', 'job-cancel', 'CANCELLED, STALE'],
  ['copy', 'CANCELLING', 'faster', 'CANCELLED, COMPLETE'],
  ['pull', 'RUNNING', 'job-cancel', 'CANCELLED, UNSPECIFIED', CANCELLED],
  ['pull', 'RUNNING', 'block-job-cancel', 'CANCELLED, UNSPECIFIED', CANCELLED],
  // It waits for the flush before it closes the pulled images; another client does not wait.
  ['pull', 'RUNNING', 'faster, job-finalize, unseen', 'COMPLETED, UNSPECIFIED'],
  ['commit', 'RUNNING', 'job-cancel', 'CANCELLED, UNSPECIFIED', CANCELLED],
  // The header on disk shows that it was not done.
  ['commit', 'RUNNING', 'job-cancel, job-dismiss, unseen', 'FAILED, UNSPECIFIED', DISMISSED],
  ['commit', 'RUNNING', 'faster', 'COMPLETED, UNSPECIFIED'],
  ['active commit', 'RUNNING', 'job-cancel', 'CANCELLED, PARTIAL', CANCELLED],
  ['active commit', 'READY', 'block-job-cancel', 'CANCELLED, COMPLETE', ENDED],
  ['active commit', 'READY', 'job-cancel', 'CANCELLED, STALE', CANCELLED],
  ['active commit', 'READY', 'job-complete', 'COMPLETED, COMPLETE'],
];

let site: Site;

async function start(kind: Kind, { disk, dir }: Machine): Promise<Job> {
  const { service } = site;
  switch (kind) {
    case 'copy': {
      const destination = { target: { $case: 'file', value: join(dir, 'copy') } } as const;
      return await service.startCopy({ disk, destination, bandwidthBytesPerSecond: SLOW });
    }
    case 'pull':
      return await service.rebase({ disk, flags: [64], bandwidth: SLOW });
    case 'commit':
      return await service.commit({ disk, top: 'disk0[1]', flags: [BANDWIDTH], bandwidth: SLOW });
    case 'active commit':
      return await service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE, BANDWIDTH], bandwidth: SLOW });
  }
}

/** Brings a new job to the state in which the other client acts. */
async function bringTo(at: At, { id }: Job, { guest }: Machine): Promise<void> {
  const { service } = site;
  await guest.write(0);
  if (at === 'RUNNING') return;
  await service.setSpeed(id, 0n);
  await service.until(id, 'STATE_READY');
  if (at !== 'READY') await service.setSpeed(id, 1n);
  await guest.write(1);
  if (at === 'READY') return;
  // The remaining bytes take days to copy.
  await service.abort({
    job: byId(id),
    pivot: at === 'PIVOTING',
    returnImmediately: true,
    pauseGuest: PauseGuest.PAUSE_GUEST_NEVER,
  });
}

async function interfere(commands: readonly string[], { id }: Job, { qemu: { admin } }: Machine): Promise<void> {
  const status = async () => (await graphOf(admin)).jobs.find((job) => job.startsWith(id))?.split(' ')[2];
  for (const command of commands) {
    if (command === 'job-dismiss') {
      await eventually('QEMU concludes it', async () => ((await status()) === 'concluded' ? true : undefined));
    }
    if (command === 'job-finalize') {
      await eventually('all is read', async () => ((await status()) === 'pending' ? true : undefined));
    }
    if (command === 'faster') await admin.execute('block-job-set-speed', { device: id, speed: 0 });
    else await admin.execute(command, command.startsWith('block-job-') ? { device: id } : { id });
  }
}

/** The graph shows the place of the guest, and the journal the time when that was found. */
async function expectEvidence({ id, outcome, revision }: Job): Promise<void> {
  const entries = await journalEntries(site.stateFolder, id, revision);
  const concluded = BigInt(present(entries.find(({ entry }) => entry === 'concluded')).revision);
  expect(outcome?.evidence).toContainEqual({
    source: Evidence_Source.SOURCE_QEMU_GRAPH,
    text: `device disk0 was on ${outcome?.guestWritesTo}`,
    revision: concluded,
  });
  expect(outcome?.evidence.every((one) => one.revision <= concluded)).toBe(true);
}

/** The file of a copy: deleted if it is useless, listed if it is left, and kept if it may be useful. */
async function expectFile({ id, outcome }: Job, content: Content, { dir, disk }: Machine): Promise<void> {
  const path = join(dir, 'copy');
  const leftovers = await site.service.listLeftovers(disk.domain);
  expect(existsSync(path)).toBe(content !== 'PARTIAL');
  expect(outcome?.destinationRemoved).toBe(content === 'PARTIAL');
  switch (content) {
    case 'STALE':
      expect(outcome?.safeToDelete).toMatchObject([{ path }]);
      expect(leftovers).toMatchObject([{ id: `file:${id}`, name: path, blockedBy: '' }]);
      expect(await site.service.reclaim([`file:${id}`], true)).toMatchObject([{ reclaimed: true }]);
      expect(existsSync(path)).toBe(false);
      return;
    case 'UNKNOWN':
      expect(outcome?.safeToDelete).toEqual([]);
      expect(leftovers).toMatchObject([
        { name: path, blockedBy: expect.stringContaining('read the outcome') as string },
      ]);
      return;
    default:
      expect(leftovers).toEqual([]);
  }
}

describe.skipIf(needs('qemu'))('another client of QEMU', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each(ROWS.map(([kind, at, does, ends, why]) => ({ kind, at, does, ends, why })))(
    'to a $kind that is $at: $does; it is $ends',
    async ({ kind, at, does, ends, why }) => {
      const [state, content] = ends.split(', ') as [State, Content];
      const moved = state === 'COMPLETED' && content === 'COMPLETE';
      await using machine = await site.machine();
      const { qemu, top, guest, chain, dir } = machine;
      const beganAt = new Date();
      const job = await start(kind, machine);
      await bringTo(at, job, machine);
      const commands = does.split(', ').filter((word) => word !== 'unseen');
      const others = async () => await interfere(commands, job, machine);
      if (does.endsWith('unseen')) await whileStopped(site.service.pid, others);
      else await others();
      const ended = await within(SOON_MS, 'the end of the job', site.ended(job));

      const written = kind === 'copy' ? join(dir, 'copy') : present(chain[0]).path;
      const path = moved ? written : top.path;
      expect(ended).toMatchObject({
        state: Job_State[`STATE_${state}`],
        outcome: {
          guestWritesTo: path,
          nextStartPath: path,
          destinationContent: DestinationContent[`DESTINATION_CONTENT_${content}`],
        },
      });
      if (why === undefined) expect(ended.error).toBeUndefined();
      else expect(ended.error?.message).toMatch(why);
      const { asOf, safeToDelete } = present(ended.outcome);
      if (content === 'COMPLETE' && !moved) {
        expect(asOf?.getTime()).toBeGreaterThan(beganAt.getTime());
        expect(asOf?.getTime()).toBeLessThanOrEqual(present(ended.endTime).getTime());
      } else expect(asOf).toBeUndefined();
      if (moved) expect(safeToDelete.map((file) => file.path)).toContain(top.path);
      await expectEvidence(ended);
      if (kind === 'copy') await expectFile(ended, content, machine);
      expectClean(await graphOf(qemu.admin), job.id, kind === 'copy' && moved ? [job.id, `${job.id}-file`] : []);

      if (content === 'COMPLETE' && !moved && kind === 'copy') await guest.expectIn(written, 'qcow2');
      await guest.write(2);
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(path, 'qcow2');
    },
  );

  test('cancels a copy whose pivot a caller waits for: that is not a success', async () => {
    await using machine = await site.machine();
    const job = await start('copy', machine);
    await bringTo('PIVOTING', job, machine);
    const waiting = refused(site.service.abort({ job: byId(job.id), pivot: true }));
    await interfere(['job-cancel'], job, machine);
    expect(await within(SOON_MS, 'the answer', waiting)).toMatchObject({ reason: 'JOB_LOST' });
  });
});
