/** A watcher of one job is left alone by all others: counted at a whole agent, with two VMs. */
import { writeFile } from 'node:fs/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { JobLog } from '../../../src/agent/journal/job-log.ts';
import { FakeQemu } from '../../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { copyTo, TestAgent } from '../../support/service/agent.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

it('a sample of one job wakes no watcher of another', async () => {
  await using opened = new AsyncDisposableStack();
  const { path: dir } = opened.use(await testDir());
  const names = ['quiet', 'busy'] as const;
  for (const name of names) {
    const [path, socketPath] = [`${dir}/${name}.qcow2`, `${dir}/${name}.sock`];
    await writeFile(path, '');
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain: [{ format: 'qcow2', path }] }] as const;
    opened.use(await FakeQemu.start({ socketPath, name, disks, sizeBytes: 1 << 20 }));
  }
  const qmp = Object.fromEntries(names.map((name) => [name, `${dir}/${name}.sock`]));
  const here = opened.use(await TestAgent.start({ dir, qmp, allow: [dir] }));
  const start = async (name: (typeof names)[number]) => {
    const disk = { domain: name, disk: 'vd0' };
    return (await here.startCopy(copyTo(`${dir}/copy-of-${name}`, { disk }))).job.accepted.job;
  };
  const [quiet, busy] = [await start('quiet'), await start('busy')];
  await here.until(quiet, 'RUNNING');

  const looks = vi.spyOn(JobLog.prototype, 'at');
  const looksAt = (job: string) =>
    (looks.mock.contexts as JobLog[]).filter((log) => log.job.accepted.job === job).length;
  const leaving = new AbortController();
  const watch = (jobId: string, progressIntervalMs: number) =>
    here.agent.watch({ job: { jobId }, afterRevision: undefined, progressIntervalMs }, leaving);
  const begun = Promise.withResolvers<void>();
  const waiting = (async () => {
    for await (const _ of watch(quiet, 3_600_000)) begun.resolve();
  })();
  await begun.promise;
  const counts: { readonly quiet: number; readonly busy: number }[] = [];
  for await (const { type } of watch(busy, 100)) {
    if (type === 'PROGRESS') counts.push({ quiet: looksAt(quiet), busy: looksAt(busy) });
    if (counts.length === 10) leaving.abort();
  }
  await waiting;
  const [first, last] = [counts[0], counts.at(-1)];
  expect(first?.quiet).toBeGreaterThan(0);
  // A sample of its own may come after its beginning, and not nine.
  expect(last?.quiet).toBeLessThanOrEqual((first?.quiet ?? 0) + 2);
  expect(last?.busy).toBeGreaterThanOrEqual((first?.busy ?? 0) + 9);
});
