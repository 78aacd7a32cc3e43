/**
 * A folder whose file system hangs, as NFS does if its server is down: here a frozen one. Other folders are not
 * delayed.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { FragileFileSystem } from '../support/images/power-cut.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { run, testDir, within } from '../support/real-qemu/qemu.ts';
import { vmOfDisks } from '../support/real-qemu/vm-of-disks.ts';
import { byId } from '../support/service/caller.ts';

/** More than Node has threads for files by default. */
const DISKS = 6;
const SOON_MS = 20_000;

test.skipIf(needs('qemu', 'power-cut'))(
  `${DISKS} copies to a folder that hangs: jobs of another VM start and end, all can be asked for, and go on or are given up when it is back`,
  async () => {
    await using site = await Site.open();
    await using folder = await testDir();
    await using fs = await FragileFileSystem.make(folder.path, 32 + 8 * DISKS);
    await using other = await site.machine();
    await using hung = await vmOfDisks(DISKS, (name) => monitorIn(site.sockets, name));
    const { name: domain, disks } = hung;
    await site.service.domainUp(domain);
    const { service } = site;
    const copy = async (disk: string): Promise<Job> =>
      await service.startCopy({
        disk: { domain, disk },
        destination: { target: { $case: 'file', value: join(fs.path, disk) } },
      });
    const startingNow = async () => {
      const { jobs } = await service.listJobs();
      return jobs.filter((job) => job.disk?.domain === domain).map(({ state }) => state);
    };
    let starts: Promise<PromiseSettledResult<Job>[]> | undefined;
    let givenUp: Promise<Job> | undefined;
    await run('fsfreeze', ['--freeze', fs.path]);
    try {
      starts = Promise.allSettled(disks.map(copy));
      await eventually('all of them have begun', async () =>
        (await startingNow()).length === DISKS ? true : undefined,
      );
      const { id } = await within(
        SOON_MS,
        'the start of another VM’s copy',
        service.startCopy({
          disk: other.disk,
          destination: { target: { $case: 'file', value: join(other.dir, 'copy') } },
        }),
      );
      await service.until(id, 'STATE_READY');
      const ended = await within(SOON_MS, 'its pivot', service.abort({ job: byId(id), pivot: true }));
      expect(ended.state).toBe(Job_State.STATE_COMPLETED);
      const one = present((await service.listJobs()).jobs.find((job) => job.disk?.domain === domain));
      givenUp = service.abort({ job: byId(one.id), force: true });
      await eventually('it is written down', async () =>
        (await service.getInfo(one.id)).revision > one.revision ? true : undefined,
      );
      // Nobody waits for it, and it does not end before the folder is back.
      expect(await startingNow()).toEqual(disks.map(() => Job_State.STATE_STARTING));
    } finally {
      await run('fsfreeze', ['--unfreeze', fs.path]);
      const gone = await givenUp;
      expect(gone?.state).toBe(Job_State.STATE_FAILED);
      expect(await readdir(fs.path)).not.toContain(gone?.disk?.disk);
      const started = (await starts)?.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
      expect(started).toHaveLength(DISKS - 1);
      for (const { id } of started ?? []) {
        await service.until(id, 'STATE_READY');
        await service.abort({ job: byId(id) });
      }
    }
  },
);
