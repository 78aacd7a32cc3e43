/**
 * An agent that finds any beginning of a job's journal, up to any line and to the middle of any line, and QEMU as it
 * was then, as it was after each command until the next line, as it has become by itself since, or gone: the job ends,
 * its outcome is what QEMU did, and all leftovers are listed.
 */
import { describe, expect, test, vi } from 'vitest';
import { decodeJournal } from '../../src/agent/journal/journal.ts';
import { Cases } from '../support/fake-qemu/cases.ts';
import { COURSES, type Course, drive, FAILED_COURSES, jobsOf } from '../support/fake-qemu/courses.ts';
import type { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { Scene, type SceneMoment } from '../support/fake-qemu/scene.ts';
import { type Recording, record } from '../support/real-qemu/recording.ts';
import { expectJournals, expectTruth } from '../support/real-qemu/truth.ts';

// Each test tries a hundred cases, one after the other, and twelve tests share a core.
vi.setConfig({ testTimeout: 600_000 });

interface Found {
  /** The entries that are left of the journal. */
  readonly text: string;
  /** The records of guests that are held. */
  readonly holds: ReadonlyMap<string, string>;
  readonly world: SceneMoment;
  /** Changes in QEMU since then, by itself or by another client. */
  readonly since?: (qemu: FakeQemu) => void;
  /** Nobody who asks QEMU now can know what happened since. */
  readonly unseen?: boolean;
}

/** Another agent starts, and continues with the state that it finds. */
async function goOn(course: Course, scene: Scene, { job, before }: Recording, found: Found): Promise<void> {
  const { text, holds, world, since, unseen = false } = found;
  scene.restore(world);
  since?.(scene.qemu);
  await using cleanUp = new AsyncDisposableStack();
  const agent = cleanUp.use(await scene.agent({ job, text, holds }));
  if ((await jobsOf(agent)).length > 0) await drive(course, job, { agent, qemu: scene.qemu });
  const jobs = await expectTruth({ scene, agent, job, before, unseen, mayLeave: course.leaves === true });
  await cleanUp.disposeAsync();
  await expectJournals(agent, jobs);
}

interface Prefix {
  /** The number of journal lines. */
  readonly count: number;
  readonly text: string;
  readonly holds: Found['holds'];
  readonly world: SceneMoment;
  /** A description of the case. */
  readonly words: string;
  readonly next: Recording['lines'][number] | undefined;
}

function prefixes({ lines }: Recording): readonly Prefix[] {
  let text = '';
  return lines.map((line, index) => {
    text += line.text;
    const count = index + 1;
    const step = 'step' in line.entry ? ` ${line.entry.step}` : '';
    return {
      count,
      text,
      holds: line.holds,
      world: line.world,
      words: `${count} ${line.entry.entry}${step}`,
      next: lines[count],
    };
  });
}

function statusIn({ qemu }: SceneMoment, job: string): string | undefined {
  const listed = qemu.listed.get(job);
  return listed && qemu.jobs.get(listed)?.status;
}

/** The possible ends of a job that QEMU continues. */
const SINCE: readonly {
  readonly name: string;
  readonly in: readonly string[];
  readonly does: (qemu: FakeQemu, job: string) => void;
  /** Also dismissed: then nobody can see its end. */
  readonly dismissed?: boolean;
}[] = [
  { name: 'it has failed', in: ['running', 'ready'], does: (qemu, job) => qemu.job(job).fail('Input/output error') },
  { name: 'another client has cancelled it', in: ['running', 'ready'], does: cancelled },
  { name: 'another client has completed it', in: ['ready'], does: (qemu, job) => void qemu.job(job).complete() },
  {
    name: 'another client has cancelled and dismissed it',
    in: ['running', 'ready'],
    does: cancelled,
    dismissed: true,
  },
  {
    name: 'another client has completed and dismissed it',
    in: ['ready'],
    does: (qemu, job) => void qemu.job(job).complete(),
    dismissed: true,
  },
  { name: 'it has become READY', in: ['running'], does: (qemu, job) => ready(qemu, job) },
];

function cancelled(qemu: FakeQemu, job: string): void {
  qemu.job(job).cancel(true);
}

function ready(qemu: FakeQemu, job: string): void {
  if (qemu.job(job).type === 'mirror') qemu.job(job).becomeReady();
}

describe.concurrent.each([...COURSES, ...FAILED_COURSES])('$name', (course) => {
  test('from each line, and from the middle of each', async () => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    const recording = await record(course, scene);
    const { lines } = recording;
    const cases = new Cases(() => scene.left);
    const finds = async (name: string, found: Found) => {
      await cases.try(name, async () => await goOn(course, scene, recording, found));
    };
    const holds = new Map<string, string>();
    await finds('nothing', { text: '', holds, world: recording.before });
    await finds('the half of line 1', { text: lines[0]?.text.slice(0, 500) ?? '', holds, world: recording.before });
    for (const { count, text, holds: held, words, world, next } of prefixes(recording)) {
      await finds(`${words}, as it was then`, { text, holds: held, world });
      if (next === undefined) continue;
      const cut = [1, Math.floor(next.text.length / 2), next.text.length - 1][count % 3] ?? 1;
      const torn = text + next.text.slice(0, cut);
      await finds(`${words}, and ${cut} characters of ${next.entry.entry}`, {
        text: torn,
        holds: next.holds,
        world: next.world,
      });
    }
    // Several steps may begin with one line.
    for (const [at, { line, world }] of recording.since.entries()) {
      const found = prefixes(recording)[line - 1];
      if (found === undefined) throw new Error(`there is no line ${line}`);
      await finds(`${found.words}, and command ${at}`, { text: found.text, holds: found.holds, world });
    }
    expect(cases.wrong).toEqual([]);
  });

  test('from each line, while the world has changed meanwhile', async () => {
    await using scene = await Scene.begin(course.scene);
    course.before?.(scene);
    const recording = await record(course, scene);
    const { job, end, lines } = recording;
    const cases = new Cases(() => scene.left);
    const finds = async (name: string, found: Found) => {
      await cases.try(name, async () => await goOn(course, scene, recording, found));
    };
    const runs = lines.findIndex(({ entry }) => entry.entry === 'running');
    for (const { count, text, holds: held, words, world, next } of prefixes(recording)) {
      if (runs !== -1 && count > runs && next !== undefined) {
        await finds(`${words}, as it was in the end`, { text, holds: held, world: end, unseen: true });
      }
      for (const { name, in: statuses, does, dismissed = false } of SINCE) {
        if (!statuses.includes(statusIn(world, job) ?? '')) continue;
        const since = (qemu: FakeQemu) => {
          qemu.meanwhile(() => does(qemu, job));
          if (dismissed && qemu.jobs.includes(job)) qemu.job(job).dismiss();
        };
        // QEMU keeps nothing of a pull that has ended.
        const unseen = dismissed || scene.qemu.anyJob(job)?.type === 'stream';
        await finds(`${words}, ${name}`, { text, holds: held, world, since, unseen });
      }
    }
    await scene.qemu.die();
    for (const { text, holds, words, world } of prefixes(recording)) {
      await finds(`${words}, QEMU is gone`, { text, holds, world, unseen: true });
    }
    expect(cases.wrong).toEqual([]);
  });
});

test('a journal that is torn anywhere is read up to the line before', async () => {
  const [course] = COURSES;
  if (course === undefined) throw new Error('there are no courses');
  await using scene = await Scene.begin(course.scene);
  const { lines } = await record(course, scene);
  const [first] = lines;
  for (const { text, entry } of lines) {
    const before = entry.entry === 'accepted' ? '' : (first?.text ?? '');
    for (let cut = 0; cut < text.length; cut += 1) {
      const read = decodeJournal(Buffer.from(before + text.slice(0, cut)));
      const whole = before === '' ? [undefined, undefined] : [1, before.length];
      expect([read?.entries.length, read?.wholeBytes]).toEqual(whole);
    }
  }
});
