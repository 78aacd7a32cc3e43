/**
 * A service died while a copy waited for space, or was about to: another one reads the journal up to any line, finds
 * QEMU before or after the command that follows from it, and there is room. The job goes on, unless a client has paused
 * it.
 */
import { describe, expect, test, vi } from 'vitest';
import { everyTwoSeconds } from '../../src/agent/job/looks.ts';
import { encodeLine } from '../../src/agent/journal/journal.ts';
import type { JobEvent } from '../../src/core/job/job-event.ts';
import type { EntryBody } from '../../src/core/job/journal-entry.ts';
import { present } from '../support/checks.ts';
import { COURSES } from '../support/fake-qemu/courses.ts';
import type { FakeJob } from '../support/fake-qemu/fake-job.ts';
import { Scene } from '../support/fake-qemu/scene.ts';
import { record } from '../support/real-qemu/recording.ts';
import { PATIENT, type TestAgent } from '../support/service/agent.ts';
import { spaceIs } from '../unit/core/stories.ts';

// One of them waits for 8 seconds.
vi.setConfig({ testTimeout: 120_000 });

const NO_SPACE: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
const PAUSE: EntryBody = { entry: 'pause-requested' };
const FULL = spaceIs('FULL');
const ENOUGH = spaceIs('ENOUGH');

const runs = () => undefined;
const paused = (job: FakeJob) => void job.pause();
const outOfSpace = (job: FakeJob) => job.runOutOfSpace();

/** A copy that runs: its journal, and QEMU at that moment. */
async function running() {
  const course = present(COURSES[0]);
  await using made = new AsyncDisposableStack();
  const scene = made.use(await Scene.begin(course.scene));
  const { job, lines } = await record(course, scene);
  const at = lines.findIndex(({ entry }) => entry.entry === 'running');
  const text = lines
    .slice(0, at + 1)
    .map((line) => line.text)
    .join('');
  scene.restore(present(lines[at]).world);
  const kept = made.move();
  return { scene, job, text, revision: at + 1, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

function written(entries: readonly EntryBody[], after: number): string {
  const time = '2026-02-03T03:07:13.208Z';
  return entries.map((entry, at) => encodeLine({ ...entry, revision: after + at + 1, time })).join('');
}

/** Resolves at such an event after that revision. */
async function event({ agent }: TestAgent, job: string, after: number, isIt: (event: JobEvent) => boolean) {
  const request = { job: { jobId: job }, afterRevision: after, progressIntervalMs: undefined };
  for await (const one of agent.watch(request, PATIENT)) if (isIt(one)) return;
  throw new Error('the job has ended');
}

describe('a copy that waits for space, after a restart', () => {
  test.each<[what: string, entries: readonly EntryBody[], does: (job: FakeJob) => void]>([
    ['about to be paused', [FULL], runs],
    ['paused, which is not recorded', [FULL], paused],
    ['paused', [FULL, NO_SPACE], paused],
    ['about to be resumed', [FULL, NO_SPACE, ENOUGH], paused],
    ['resumed, which is not recorded', [FULL, NO_SPACE, ENOUGH], runs],
    ['paused by QEMU, which nobody has seen', [], outOfSpace],
    ['paused by QEMU', [NO_SPACE], outOfSpace],
    ['paused by QEMU again, after it was resumed', [NO_SPACE, FULL, ENOUGH, { entry: 'resumed' }], outOfSpace],
  ])('goes on: %s', async (_what, entries, does) => {
    await using it = await running();
    const { scene, job, text, revision } = it;
    const inQemu = present(scene.qemu.anyJob(job));
    does(inQemu);
    await using agent = await scene.agent({ job, text: text + written(entries, revision) }, { looks: everyTwoSeconds });
    await event(agent, job, revision + entries.length, ({ type }) => type === 'RESUMED');
    expect(present(scene.qemu.anyJob(job)).state.userPaused).toBe(false);
    expect(scene.qemu.guestRuns).toBe(true);
  });

  test.each<[what: string, entries: readonly EntryBody[]]>([
    ['and has its answer', [FULL, NO_SPACE, PAUSE, NO_SPACE]],
    ['and waits for the answer', [FULL, NO_SPACE, PAUSE]],
    ['and it had space already', [FULL, NO_SPACE, PAUSE, NO_SPACE, ENOUGH]],
  ])('stays paused if a client has paused it, %s', async (_what, entries) => {
    await using it = await running();
    const { scene, job, text, revision } = it;
    paused(present(scene.qemu.anyJob(job)));
    await using agent = await scene.agent({ job, text: text + written(entries, revision) }, { looks: everyTwoSeconds });
    await event(agent, job, revision, ({ job: { space }, type }) => type === 'SPACE' && space?.level === 'ENOUGH');
    const { job: now } = await agent.agent.setSpeed(
      { job: { jobId: job }, bandwidthBytesPerSecond: 77n, requestId: '' },
      PATIENT,
    );
    // Another change is made, and the pause is not lifted before it.
    expect(now.bandwidthBytesPerSecond).toBe(77);
    expect(present(scene.qemu.anyJob(job)).state.userPaused).toBe(true);
  });
});
