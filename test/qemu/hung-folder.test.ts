/** A folder whose file system hangs, as NFS does whose server is away: here one that is frozen. Others are not held up. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { Site } from '../support/bench-qemu.ts';
import { byId } from '../support/caller.ts';
import { eventually, monitorIn } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { FragileFileSystem } from '../support/power-cut.ts';
import { run, testDir, within } from '../support/qemu.ts';
import { vmOfDisks } from '../support/vm-of-disks.ts';

/** More than Node has threads for files, unless it is told otherwise. */
const DISKS = 6;
const SOON_MS = 20_000;

test.skipIf(needs('qemu', 'power-cut'))(
  `${DISKS} copies to a folder that hangs: jobs of another VM start and end, all can be asked for, and go on when it does`,
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
    let starts: Promise<Job[]> | undefined;
    await run('fsfreeze', ['--freeze', fs.path]);
    try {
      starts = Promise.all(disks.map(copy));
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
      expect(await startingNow()).toEqual(disks.map(() => Job_State.STATE_STARTING));
    } finally {
      await run('fsfreeze', ['--unfreeze', fs.path]);
      for (const { id } of (await starts) ?? []) {
        await service.until(id, 'STATE_READY');
        await service.abort({ job: byId(id) });
      }
    }
  },
);
