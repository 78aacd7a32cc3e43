/** The number of questions about a chain, to QEMU and to file systems, grows linearly with its images. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import { QmpProxy } from '../support/fake-qemu/qmp-proxy.ts';
import { CountedFiles } from '../support/images/counted-files.ts';
import { needs } from '../support/means.ts';
import { deepChain } from '../support/real-qemu/deep-chain.ts';
import { startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { PATIENT, TestAgent } from '../support/service/agent.ts';

interface Cost {
  /** Commands to QEMU. */
  readonly questions: number;
  readonly files: number;
}

/**
 * Four times the images may cost this much more: a chain of one costs something, too. A quadratic cost would be 16
 * times.
 */
const MOST = 5;

async function costsAt(depth: number): Promise<Readonly<Record<'shown' | 'committed' | 'listed', Cost>>> {
  await using dir = await testDir();
  const chain = await deepChain(dir.path, { depth, sizeBytes: 1 << 20 });
  await using qemu = await startQemu({ style: 'blockdev', disks: [{ id: 'vd0', bus: 'virtio-blk', chain }] });
  let questions = 0;
  const qmp = join(dir.path, 'proxy.sock');
  await using _proxy = await QmpProxy.between(qmp, qemu.qmpPath, async () => {
    questions += 1;
    return await Promise.resolve(true);
  });
  await using agent = await TestAgent.start({ dir: dir.path, qmp: { vm1: qmp }, allow: [dir.path] });
  using files = new CountedFiles();
  const cost = async (work: () => Promise<unknown>): Promise<Cost> => {
    const before = { questions, files: files.calls };
    await work();
    return { questions: questions - before.questions, files: files.calls - before.files };
  };
  const { agent: jobs } = agent;
  // The agent looks for jobs in a QEMU that it has just reached. That question comes before those of this call.
  await jobs.getDomain('vm1', PATIENT);
  const shown = await cost(async () => {
    const { disks } = await jobs.getDomain('vm1', PATIENT);
    expect(disks[0]?.disk.chain).toHaveLength(depth);
  });
  const half = present(chain[depth / 2]).path;
  const flags = [] as const;
  const disk = { domain: 'vm1', disk: 'vd0' };
  const start = { requestId: '', timeLimitMs: undefined, validateOnly: false, planEtag: '', accept: [] };
  const request = { ...start, disk, base: half, top: present(chain[depth - 2]).path, flags, bandwidth: 0n };
  const committed = await cost(async () => {
    const started = await jobs.commit(request, PATIENT);
    if ('etag' in started) throw new Error('a plan was not asked for');
    const { job } = started.job.accepted;
    expect(await agent.until(job, 'COMPLETED')).toBe('COMPLETED');
  });
  const listed = await cost(async () => {
    const { items } = await jobs.listJobs({ domain: '', states: [], pageSize: 0, pageToken: '' }, PATIENT);
    expect(items[0]?.job.outcome.safeToDelete).toHaveLength(depth / 2 - 2);
  });
  return { shown, committed, listed };
}

describe.skipIf(needs('qemu'))('a deep chain', () => {
  test('costs four times as much with four times the images, and not 16 times', async () => {
    const [few, many] = [await costsAt(20), await costsAt(80)];
    for (const [what, { questions, files }] of Object.entries(many)) {
      const before = few[what as keyof typeof few];
      expect(questions, `questions: ${what}`).toBeLessThanOrEqual(MOST * before.questions);
      expect(files, `files: ${what}`).toBeLessThanOrEqual(MOST * before.files);
    }
    expect(many.shown).toEqual(few.shown);
    expect(many.listed.questions).toBe(few.listed.questions);
  });
});
