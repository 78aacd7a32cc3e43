/** The gate of a job whose journal is lost, and the default of the host. prefixes and steps have the other courses. */
import { describe, expect, test } from 'vitest';
import { BlockJobError } from '../../src/core/errors.ts';
import type { PublicJob } from '../../src/core/job/job-view.ts';
import type { AbortRequest, CopyRequest } from '../../src/core/requests.ts';
import { present } from '../support/checks.ts';
import { Scene } from '../support/fake-qemu/scene.ts';
import { copyTo, PATIENT, type TestAgent } from '../support/service/agent.ts';

const PIVOT = { pivot: true, returnImmediately: false, force: false, pauseGuest: undefined, requestId: '' };

/** The job, READY. */
async function ready(scene: Scene, agent: TestAgent, more: Partial<CopyRequest> = {}): Promise<string> {
  const { job } = await agent.startCopy(copyTo(scene.path('copy'), { format: 'RAW', ...more }));
  const id = job.accepted.job;
  scene.qemu.job(id).becomeReady();
  await agent.until(id, 'READY');
  return id;
}

/** The reason against a pivot, or the state of the job after it. */
async function pivot({ agent }: TestAgent, jobId: string, record?: AbortRequest['record']): Promise<string> {
  try {
    return (await agent.abort({ ...PIVOT, job: { jobId }, record }, PATIENT)).job.state;
  } catch (error) {
    if (error instanceof BlockJobError) return error.reason;
    throw error;
  }
}

async function gateOf({ agent }: TestAgent, jobId: string): Promise<NonNullable<PublicJob['pivotGate']>> {
  return present((await agent.getInfo({ jobId }, PATIENT)).job.pivotGate);
}

describe('the default of a host', () => {
  test.each([
    ['EXTERNAL', undefined, 'CONFIG_NOT_RECORDED'],
    ['EXTERNAL', 'NONE', 'COMPLETED'],
    ['EXTERNAL', 'EXTERNAL', 'CONFIG_NOT_RECORDED'],
    ['NONE', undefined, 'COMPLETED'],
    ['NONE', 'EXTERNAL', 'CONFIG_NOT_RECORDED'],
  ] as const)('%s and a request with %s: a pivot without a record ends in %s', async (byDefault, asked, expected) => {
    await using scene = await Scene.begin();
    await using agent = await scene.agent(undefined, { configOwner: byDefault });
    const job = await ready(scene, agent, { configOwner: asked });
    expect(await pivot(agent, job)).toBe(expected);
  });
});

test('a job whose journal is lost has another gate, and a record of the earlier one does not open it', async () => {
  await using scene = await Scene.begin();
  const byDefault = { configOwner: 'EXTERNAL' } as const;
  const first = await scene.agent(undefined, byDefault);
  const job = await ready(scene, first);
  expect(await pivot(first, job)).toBe('CONFIG_NOT_RECORDED');
  const { token } = await gateOf(first, job);
  await first[Symbol.asyncDispose]();

  await using second = await scene.agent({ job, text: undefined }, byDefault);
  await second.until(job, 'READY');
  expect(await pivot(second, job, { token })).toBe('CONFIG_RECORD_STALE');
  const gate = await gateOf(second, job);
  expect(gate.token).not.toBe(token);
  expect(await pivot(second, job, gate)).toBe('COMPLETED');
});
