/**
 * Every command of every course of a job × {refused, connection lost before QEMU executed it, lost after}: the job
 * ends, its outcome is what QEMU did, and all leftovers are listed.
 */
import { describe, expect, test, vi } from 'vitest';
import { BlockJobError } from '../../src/core/errors.ts';
import { Cases } from '../support/fake-qemu/cases.ts';
import { COURSES, type Course, drive } from '../support/fake-qemu/courses.ts';
import { Scene } from '../support/fake-qemu/scene.ts';
import { expectJournals, expectTruth } from '../support/real-qemu/truth.ts';

// Each test tries a hundred cases, one after the other.
vi.setConfig({ testTimeout: 300_000 });

const HOW = ['refused', 'lost before it was executed', 'lost after it was executed'] as const;

/** The nth of these commands, counted from 1, meets the fault. */
interface Fault {
  readonly command: string;
  readonly nth: number;
  readonly how: (typeof HOW)[number];
}

function inject({ qemu }: Scene, { command, nth, how }: Fault): void {
  if (how === 'refused') qemu.failNext(command, 'said the test', nth);
  else if (how === 'lost before it was executed') qemu.dropConnectionBefore(command, nth);
  else qemu.dropConnectionAfter(command, nth);
}

function faultsOf({ commands = [] }: Course, how: Fault['how']): readonly Fault[] {
  return commands.map((command, index) => {
    const nth = commands.slice(0, index + 1).filter((one) => one === command).length;
    return { command, nth, how };
  });
}

/** From its start to its end, with any effects of a fault. */
async function live(course: Course, scene: Scene, fault?: Fault): Promise<void> {
  const before = scene.now;
  await using cleanUp = new AsyncDisposableStack();
  const agent = cleanUp.use(await scene.agent());
  if (fault !== undefined) inject(scene, fault);
  const started = await course.start(agent, scene).catch((error: unknown) => {
    if (error instanceof BlockJobError) return undefined;
    throw error;
  });
  const job = started !== undefined && 'job' in started ? started.job.accepted.job : '';
  if (job !== '') await drive(course, job, { agent, qemu: scene.qemu });
  expect(scene.qemu.pendingFaults, 'faults that did not happen').toBe(0);
  const isRefused = fault?.how === 'refused';
  const unflushed = isRefused && fault?.command === 'blockdev-reopen';
  const jobs = await expectTruth({ scene, agent, job, before, unflushed, mayLeave: isRefused });
  await cleanUp.disposeAsync();
  await expectJournals(agent, jobs);
}

describe.concurrent.each(COURSES)('$name', (course) => {
  test('these are its commands, and no others change anything', async () => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    await live(course, scene);
    expect(scene.qemu.changes).toEqual(course.commands);
  });

  test.each(HOW)('each of its commands is %s', async (how) => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    const before = scene.now;
    const cases = new Cases(() => scene.left);
    for (const fault of faultsOf(course, how)) {
      await cases.try(`${fault.command}, number ${fault.nth}`, async () => {
        scene.restore(before);
        await live(course, scene, fault);
      });
    }
    expect(cases.wrong).toEqual([]);
  });
});
