/**
 * The journals are gone, or nobody can read them: the jobs that QEMU still runs are taken up, and nothing of them is
 * lost.
 */
import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, Job_State, JobEvent_Kind, JobKind } from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf, present } from '../support/checks.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { byId } from '../support/service/caller.ts';

const SLOW = 65_536n;
const BANDWIDTH = CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES;

interface Row {
  readonly what: string;
  readonly kind: JobKind;
  readonly start: (machine: Machine) => Promise<{ id: string }>;
  readonly ready: boolean;
}

function target({ dir }: Machine) {
  return { target: { $case: 'file', value: join(dir, 'copy') } } as const;
}

let site: Site;

const ROWS: readonly Row[] = [
  {
    what: 'a copy',
    kind: JobKind.JOB_KIND_COPY,
    start: async (machine) =>
      await site.service.startCopy({
        disk: machine.disk,
        destination: target(machine),
        bandwidthBytesPerSecond: SLOW,
      }),
    ready: true,
  },
  {
    what: 'a shallow copy',
    kind: JobKind.JOB_KIND_COPY,
    start: async (machine) =>
      await site.service.startCopy({
        disk: machine.disk,
        destination: target(machine),
        shallow: true,
        bandwidthBytesPerSecond: SLOW,
      }),
    ready: true,
  },
  {
    what: 'a pull of the whole chain',
    kind: JobKind.JOB_KIND_PULL,
    start: async ({ disk }) => await site.service.rebase({ disk, flags: [64], bandwidth: SLOW }),
    ready: false,
  },
  {
    what: 'a pull down to a base',
    kind: JobKind.JOB_KIND_PULL,
    start: async ({ disk }) => await site.service.rebase({ disk, base: 'disk0[2]', flags: [64], bandwidth: SLOW }),
    ready: false,
  },
  {
    what: 'a commit of lower images',
    kind: JobKind.JOB_KIND_COMMIT,
    start: async ({ disk }) =>
      await site.service.commit({ disk, top: 'disk0[1]', flags: [BANDWIDTH], bandwidth: SLOW }),
    ready: false,
  },
  {
    what: 'an active commit',
    kind: JobKind.JOB_KIND_ACTIVE_COMMIT,
    start: async ({ disk }) =>
      await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE, BANDWIDTH], bandwidth: SLOW }),
    ready: true,
  },
];

/** Moves the journals away while no service runs. */
async function lose(machine: Machine, how: 'removed' | 'damaged'): Promise<void> {
  const jobs = join(site.stateFolder, 'jobs');
  await site.restart('SIGKILL', machine.disk.domain, async () => {
    for (const name of await readdir(jobs)) {
      if (how === 'removed') await rm(join(jobs, name));
      else await writeFile(join(jobs, name), '00000000 {}\n00000000 {}\n');
    }
  });
}

describe('a journal that is lost', () => {
  test.each(ROWS.flatMap((row) => (['removed', 'damaged'] as const).map((how) => ({ ...row, how }))))(
    '$how: $what continues, ends as usual, and leaves nothing open',
    async ({ kind, start, ready, how }) => {
      site = await Site.open([], []);
      await using held = site;
      await using machine = await site.machine();
      const { guest, disk, qemu, top, dir } = machine;
      const before = await start(machine);
      await guest.write(0);
      held.complaints = /A journal cannot be used/;
      await lose(machine, how);
      const job = await held.service.getInfo(before.id);
      const known = await held.service.listJobs({ domain: disk.domain });
      expect(known.jobs.map(({ id }) => id)).toEqual([before.id]);
      expect(job).toMatchObject({ kind, state: Job_State.STATE_RUNNING, sourcePath: top.path, disk });
      expect(job.bandwidthBytesPerSecond).toBe(SLOW);

      // A watcher that saw the first history is told that it is gone.
      const events: { kind: number; revision: bigint; oldestRevision: bigint }[] = [];
      for await (const event of held.service.watch(job.id, 2)) {
        events.push(event);
        if (event.kind === JobEvent_Kind.KIND_STATE) break;
      }
      const [compacted, first] = events;
      expect(compacted?.kind).toBe(JobEvent_Kind.KIND_COMPACTED);
      expect(first?.revision).toBe(compacted?.oldestRevision);
      expect(first?.revision).toBe(present(compacted).revision + 1n);

      await guest.write(1);
      await held.service.setSpeed(job.id, 0n);
      if (ready) {
        await held.service.until(job.id, 'STATE_READY');
        await held.service.abort({ job: byId(job.id), pivot: true });
      }
      const ended = await held.ended(job);
      const copy = kind === JobKind.JOB_KIND_COPY;
      const place = copy
        ? join(dir, 'copy')
        : kind === JobKind.JOB_KIND_ACTIVE_COMMIT
          ? machine.chain[0]?.path
          : top.path;
      expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: place } });
      expectClean(await graphOf(qemu.admin), job.id, copy ? [job.id, `${job.id}-file`] : []);
      await guest.write(2);
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(present(place), 'qcow2');
      // The unreadable files are there for a person to look at.
      const files = await readdir(join(held.stateFolder, 'jobs'));
      expect(files.filter((name) => name.endsWith('.unreadable'))).toHaveLength(how === 'damaged' ? 1 : 0);
    },
  );

  test('a copy that is cancelled then: its file is not removed, because nobody knows that it was made here', async () => {
    site = await Site.open();
    await using held = site;
    await using machine = await site.machine();
    const job = await present(ROWS[0]).start(machine);
    await lose(machine, 'removed');
    const ended = await held.service.abort({ job: byId(job.id) });
    expect(ended).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL, safeToDelete: [] },
    });
    expect(await readdir(machine.dir)).toContain('copy');
    expectClean(await graphOf(machine.qemu.admin), job.id);
  });

  test('comes back: its job is known again, with its whole history', async () => {
    site = await Site.open();
    await using held = site;
    await using machine = await site.machine();
    const job = await held.service.startCopy({ disk: machine.disk, destination: target(machine) });
    await held.service.until(job.id, 'STATE_READY');
    const ended = await held.service.abort({ job: byId(job.id), pivot: true });
    const path = join(held.stateFolder, 'jobs', `${job.id}.jsonl`);
    await held.restart('SIGTERM', machine.disk.domain, async () => await rename(path, `${path}.away`));
    expect((await held.service.listJobs()).jobs).toEqual([]);
    await held.restart('SIGTERM', machine.disk.domain, async () => await rename(`${path}.away`, path));
    // No journal has its speed.
    expect(await held.service.getInfo(job.id)).toEqual({ ...ended, progress: undefined });
  });
});
