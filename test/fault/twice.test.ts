/**
 * Every step, every undo and the whole cleanup, carried out twice at the moment when a job does it: the effect is that
 * of one. An agent that does not know the progress of another one relies on that.
 */
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { MadeIn } from '../../src/agent/host/pinned-folder.ts';
import { performAgain, type Workplace } from '../../src/agent/job/executor.ts';
import { isUnreachable } from '../../src/agent/qemu/failures.ts';
import { VirtualMachine } from '../../src/agent/qemu/virtual-machine.ts';
import { fold, type Job } from '../../src/core/job/job.ts';
import type { JournalEntry } from '../../src/core/job/journal-entry.ts';
import type { Action } from '../../src/core/job/step.ts';
import { planSettling } from '../../src/core/plans/settling.ts';
import { COURSES, FAILED_COURSES } from '../support/fake-qemu/courses.ts';
import { Scene } from '../support/fake-qemu/scene.ts';
import { record } from '../support/real-qemu/recording.ts';

/** The step that this journal entry begins; undefined if the entry begins no step of a plan. */
function begun({ accepted }: Job, entry: JournalEntry, settling: ReturnType<typeof planSettling>): Action | undefined {
  switch (entry.entry) {
    case 'step-started':
      return [...accepted.plan, ...settling].find(({ name }) => name === entry.step)?.run;
    case 'undo-started':
      return accepted.plan.find(({ name }) => name === entry.step)?.undo;
    default:
      return undefined;
  }
}

async function connected(socketPath: string): Promise<VirtualMachine> {
  const machine = new VirtualMachine({ socketPath, givenName: 'vm1', logger: pino({ level: 'silent' }) });
  machine.start();
  while (machine.identity === undefined) await machine.wake.after(machine.wake.now);
  return machine;
}

/** The state of QEMU and of the folder, without the times of writes. */
function stateOf({ qemu, files }: Scene['now']): unknown {
  const jobs = [...qemu.listed].map(([id, job]) => [id, qemu.jobs.get(job)?.status]);
  return {
    nodes: [...qemu.graph.nodes.values()],
    devices: qemu.graph.backends,
    jobs,
    files: [...files],
    runs: qemu.running,
  };
}

async function carryOut(action: Action, workplace: Workplace, scene: Scene) {
  const isDone = await performAgain(action, workplace).then(
    () => true,
    (error: unknown) => {
      if (isUnreachable(error)) throw error;
      return false;
    },
  );
  return { isDone, world: stateOf(scene.now) };
}

describe.concurrent.each([...COURSES, ...FAILED_COURSES])('$name', (course) => {
  test('each step done twice has the effect of one', async () => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    const { lines } = await record(course, scene);
    const entries: JournalEntry[] = [];
    const machine = await connected(scene.socketPath);
    try {
      for (const { entry, world } of lines) {
        entries.push(entry);
        const [first, ...rest] = entries;
        const job = first && fold([first, ...rest]);
        const action = job && begun(job, entry, job.concluded === undefined ? [] : planSettling(job));
        if (job === undefined || action === undefined) continue;
        await using madeIn = new MadeIn();
        const workplace: Workplace = {
          domain: 'vm1',
          path: '',
          qemu: { is: 'up', machine },
          made: job.madeFile,
          madeIn,
          holder: async () => await Promise.resolve(async () => await Promise.resolve(undefined)),
        };
        scene.restore(world);
        const isStart = entry.entry === 'step-started' && job.accepted.plan.some(({ name }) => name === entry.step);
        const [once, twice] = [await carryOut(action, workplace, scene), await carryOut(action, workplace, scene)];
        const what = `${entry.entry} ${'step' in entry ? entry.step : ''}`;
        expect(twice.world, what).toEqual(once.world);
        // An undo or a cleanup finds that it is done; a step of the start may be refused, because it changes nothing.
        expect(isStart ? once.isDone : twice.isDone, what).toBe(once.isDone);
      }
    } finally {
      await machine.close();
    }
  });
});
