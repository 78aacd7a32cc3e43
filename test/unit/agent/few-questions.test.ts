/** Reads ask QEMU as little as their answers need. */
import { rm, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { FakeQemu } from '../../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { copyTo, NO_LOOKS, PATIENT, TestAgent } from '../../support/service/agent.ts';

const QUESTION = 'query-block-jobs';
const ALL_NODES = 'query-named-block-nodes';

/** An agent with a copy that is READY. */
interface Site extends AsyncDisposable {
  readonly here: TestAgent;
  readonly job: string;
  /** The image that the guest is on. */
  readonly source: string;
  /** How often QEMU was asked so far; for the progress, if it is not said for what. */
  readonly asked: (question?: string) => number;
  readonly getInfo: () => ReturnType<TestAgent['agent']['getInfo']>;
}

async function site(): Promise<Site> {
  await using opened = new AsyncDisposableStack();
  const { path: dir } = opened.use(await testDir());
  const [path, socketPath] = [`${dir}/disk.qcow2`, `${dir}/vm1.sock`];
  await writeFile(path, '');
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain: [{ format: 'qcow2', path }] }] as const;
  const commands: string[] = [];
  const onLine: NonNullable<Parameters<typeof FakeQemu.start>[0]['onLine']> = (line) => {
    if (line.line === 'command') commands.push(line.execute);
  };
  const qemu = opened.use(await FakeQemu.start({ socketPath, name: 'vm1', disks, sizeBytes: 1 << 20, onLine }));
  const here = opened.use(await TestAgent.start({ dir, qmp: { vm1: socketPath }, allow: [dir], looks: NO_LOOKS }));
  const job = (await here.startCopy(copyTo(`${dir}/copy`))).job.accepted.job;
  qemu.job(job).becomeReady();
  await here.until(job, 'READY');
  const held = opened.move();
  return {
    here,
    job,
    source: path,
    asked: (question = QUESTION) => commands.filter((one) => one === question).length,
    getInfo: async () => await here.agent.getInfo({ jobId: job }, PATIENT),
    [Symbol.asyncDispose]: async () => await held.disposeAsync(),
  };
}

/** Until the job's own looks, which ask the same question, are over: then a question of a caller is the only one. */
async function quiet({ asked, getInfo }: Site): Promise<number> {
  for (;;) {
    const before = asked();
    await getInfo();
    if (asked() - before <= 1) return asked();
  }
}

it('callers who come together ask QEMU once', async () => {
  await using here = await site();
  const before = await quiet(here);
  const views = await Promise.all(Array.from({ length: 100 }, here.getInfo));
  const asked = here.asked() - before;
  expect(asked).toBeLessThanOrEqual(5);
  // One object for each answer, so that it is encoded once. The first may be the answer to an earlier question.
  expect(new Set(views).size).toBeLessThanOrEqual(asked + 1);
});

it('a start asks its QEMU for all nodes once', async () => {
  await using here = await site();
  expect(here.asked(ALL_NODES)).toBe(1);
});

it('a caller that comes later gets a newer answer', async () => {
  await using here = await site();
  const before = await quiet(here);
  const { progress } = await here.getInfo();
  const since = performance.now();
  let last = progress;
  while (last?.sampleTime === progress?.sampleTime && performance.now() - since < 10_000) {
    last = (await here.getInfo()).progress;
  }
  expect(last?.sampleTime).not.toBe(progress?.sampleTime);
  expect(here.asked()).toBeGreaterThan(before);
});

it('a list of jobs asks each QEMU once', async () => {
  await using here = await site();
  const before = await quiet(here);
  const list = { domain: '', states: [], labels: {}, createdBy: '', pageSize: 0, pageToken: '' } as const;
  await Promise.all(Array.from({ length: 20 }, async () => await here.here.agent.listJobs(list, PATIENT)));
  expect(here.asked() - before).toBeLessThanOrEqual(5);
});

it('the graphs of all VMs are asked for a file that is still there, and not for one that was deleted', async () => {
  await using ready = await site();
  const { here, job, source, asked, getInfo } = ready;
  const request = { job: { jobId: job }, pivot: true, returnImmediately: false, force: false, requestId: '' } as const;
  await here.agent.abort({ ...request, pauseGuest: undefined }, PATIENT);
  const before = asked(ALL_NODES);
  expect((await getInfo()).job.outcome.safeToDelete).toMatchObject([{ path: source }]);
  expect(asked(ALL_NODES)).toBeGreaterThan(before);
  await rm(source);
  const later = asked(ALL_NODES);
  expect((await getInfo()).job.outcome.safeToDelete).toEqual([]);
  expect(asked(ALL_NODES)).toBe(later);
});
