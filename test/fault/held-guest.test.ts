/**
 * A service died while it held the guest, and another one starts. The guest is resumed, whatever is left of the job's
 * journal, and the fate of the job is written down first.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { encodeLine, Journal } from '../../src/agent/journal/journal.ts';
import type { JournalEntry } from '../../src/core/job/journal-entry.ts';
import { Cases } from '../support/fake-qemu/cases.ts';
import { COURSES, type Course } from '../support/fake-qemu/courses.ts';
import { Scene } from '../support/fake-qemu/scene.ts';
import { type Recording, record } from '../support/real-qemu/recording.ts';
import { until } from '../support/until.ts';
import { OUTCOME } from '../unit/core/stories.ts';

vi.setConfig({ testTimeout: 300_000 });

afterEach(() => {
  vi.restoreAllMocks();
});

/** The courses in which the guest is held. */
const HOLDING = COURSES.filter(({ commands }) => commands?.includes('stop'));

type Line = Recording['lines'][number];

/** The entries that are left of the journal, for a job that is paused. */
const LEFT: readonly {
  readonly left: string;
  readonly of: (text: string, last: JournalEntry) => string | undefined;
  /** A service that kept no holds has none. */
  readonly before?: true;
  readonly complaints?: RegExp;
}[] = [
  { left: 'all', of: (text) => text },
  { left: 'all, by a service that recorded it only in journals', of: (text) => text, before: true },
  { left: 'nothing', of: () => undefined },
  {
    left: 'all but a damaged byte',
    of: (text) => text.replace('"accepted"', '"accepteD"'),
    complaints: /A journal cannot be used/,
  },
  { left: 'all, to an end that was written while the guest was held', of: ended },
  { left: 'the same, by a service that recorded it only in journals', of: ended, before: true },
];

function ended(text: string, { revision }: JournalEntry): string {
  const end = { entry: 'ended', state: 'UNRESOLVED', failure: undefined, outcome: OUTCOME } as const;
  return text + encodeLine({ ...end, revision: revision + 1, time: '2026-02-03T03:07:13.208Z' });
}

/**
 * The moments at which the service has stopped the guest: the journal up to there, and the world when it was written.
 */
function held({ lines }: Recording): readonly { readonly text: string; readonly line: Line; readonly world: Line }[] {
  let text = '';
  const found = lines.map((line, index) => {
    text += line.text;
    // The world may also be that of the next line: stopped, completed, and nobody wrote it down.
    return [line, lines[index + 1]].flatMap((world) => (world === undefined ? [] : { text, line, world }));
  });
  return found.flat().filter(({ world }) => !world.world.qemu.running);
}

describe.each(HOLDING)('$name', (course) => {
  test.each(LEFT)('of its journal is left: $left', async ({ of, before, complaints }) => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    const recording = await record(course, scene);
    const { job } = recording;
    const cases = new Cases(() => scene.left);
    const worlds = held(recording);
    expect(worlds.length).toBeGreaterThan(1);
    for (const { text, line, world } of worlds) {
      await cases.try(`${line.entry.revision} ${line.entry.entry}`, async () => {
        scene.restore(world.world);
        const holds = before === true ? undefined : world.holds;
        const left = of(text, line.entry);
        // A journal with a released guest does not belong to a held one.
        if (before === true && line.entry.entry === 'guest-released') return;
        await using _agent = await scene.agent({ job, text: left, holds, ...(complaints && { complaints }) });
        await until('the guest runs', scene.qemu.guestChanged, () => scene.qemu.guestRuns);
      });
    }
    expect(cases.wrong).toEqual([]);
  });
});

describe('a pivot that has happened while no service ran', () => {
  const [course] = COURSES.filter(({ commands }) => commands?.includes('stop') && commands.includes('job-complete'));
  if (course === undefined) throw new Error('there is no such course');

  async function found() {
    const scene = await Scene.begin(course?.scene);
    const recording = await record(course as Course, scene);
    const { lines, job } = recording;
    const at = lines.findIndex(({ entry }) => entry.entry === 'concluded');
    const text = lines
      .slice(0, at)
      .map((line) => line.text)
      .join('');
    const world = lines[at];
    if (world === undefined) throw new Error('it has not concluded');
    scene.restore(world.world);
    return { scene, job, text, holds: world.holds };
  }

  test('is written down before the guest continues', async () => {
    const { scene, job, text, holds } = await found();
    await using _scene = scene;
    const at: Record<string, string> = {};
    scene.onCommand = (command) => {
      at[command] = readFileSync(join(scene.agentFolder, 'jobs', `${job}.jsonl`), 'utf8');
    };
    await using agent = await scene.agent({ job, text, holds });
    await agent.until(job);
    expect(at['cont']).toContain('"entry":"concluded"');
  });

  test('is not waited for longer than a guest waits for its disk, if it cannot be written down', async () => {
    const { scene, job, text, holds } = await found();
    await using _scene = scene;
    const append = vi.spyOn(Journal.prototype, 'append');
    append.mockRejectedValue(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }));
    await using agent = await scene.agent({ job, text, holds, complaints: /A move of the job failed/ });
    await until('the guest runs', scene.qemu.guestChanged, () => scene.qemu.guestRuns, 15_000);
    append.mockRestore();
    expect(await agent.until(job)).toBe('COMPLETED');
  });
});
