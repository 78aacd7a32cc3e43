/**
 * The host's clock jumps, while the service runs and while it is stopped: no job ends because of it, and none is
 * forgotten.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';

const DAY_MS = 86_400_000;

describe('a clock that jumps', () => {
  test.each([
    ['40 days forward, and back', [40, 0]],
    ['back by years, and forward again', [-6000, 0]],
  ])('%s ends no job with a time limit, and lets none be forgotten', async (_how, jumps) => {
    await using dir = await testDir();
    const file = join(dir.path, 'shift');
    const jump = async (days: number) => await writeFile(file, String(days * DAY_MS));
    await jump(0);
    await using site = await Site.open();
    site.under = [
      'env',
      `CLOCK_SHIFT=${file}`,
      `NODE_OPTIONS=--import=${join(import.meta.dirname, '../support/clock-shift.ts')}`,
    ];
    await using machine = await site.machine();
    const { disk } = machine;
    await site.restart('SIGTERM', disk.domain);
    const copyTo = (name: string) => ({ $case: 'file', value: join(machine.dir, name) }) as const;
    const past = await site.service.startCopy({ disk, destination: { target: copyTo('past') }, requestId: 'past' });
    await site.service.until(past.id, 'STATE_READY');
    await site.service.abort({ job: byId(past.id) });
    const limits = { bandwidthBytesPerSecond: 65_536n, timeLimit: { seconds: 86_400n, nanos: 0 } };
    const { id } = await site.service.startCopy({ disk, destination: { target: copyTo('copy') }, ...limits });
    const runs = async () => {
      expect((await site.service.getInfo(id)).state).toBe(Job_State.STATE_RUNNING);
      expect((await site.service.listJobs()).jobs.map((job) => job.id).toSorted()).toEqual([past.id, id].toSorted());
    };
    for (const days of jumps) {
      await jump(days);
      // Each change makes the service look at the job again, and at its time.
      await site.service.setSpeed(id, 32_768n + BigInt(days + 10_000));
      await runs();
      const year = new Date(Date.now() + days * DAY_MS).getUTCFullYear();
      const [event] = await allTold(site, id);
      expect(present(event?.time).getUTCFullYear()).toBe(year);
      await site.restart('SIGKILL', disk.domain);
      await runs();
    }
    await site.service.abort({ job: byId(id) });
  });
});

/** The first message to a watcher: the job as it is, at the time of the host's clock. */
async function allTold(site: Site, id: string) {
  const events = site.service.watch(id);
  const first = await events.next();
  await events.return(undefined);
  return first.done === true ? [] : [first.value];
}
