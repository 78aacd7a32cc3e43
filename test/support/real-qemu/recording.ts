/** A course of a job recorded line by line: its journal, and the world at each line. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BlockJobError } from '../../../src/core/errors.ts';
import type { JournalEntry } from '../../../src/core/job/journal-entry.ts';
import { type Course, drive } from '../fake-qemu/courses.ts';
import type { Scene, SceneMoment } from '../fake-qemu/scene.ts';
import type { TestAgent } from '../service/agent.ts';

export interface Recording {
  readonly job: string;
  /** Before there was any job. */
  readonly before: SceneMoment;
  /** The lines of the journal, each with its newline, and the state of the world when the line had been written. */
  readonly lines: readonly {
    readonly text: string;
    readonly entry: JournalEntry;
    readonly world: SceneMoment;
    /** The agent's records of the guests that it held, by the names of the files. */
    readonly holds: ReadonlyMap<string, string>;
  }[];
  /** The states of the world after each command that followed a line, up to the next line. */
  readonly since: readonly { readonly line: number; readonly world: SceneMoment }[];
  readonly end: SceneMoment;
}

/**
 * QEMU changes only when a command comes, or when the course says so: the entries up to then were written while QEMU
 * was in the state just before. Files change with the steps that make and remove them, which the journal names.
 */
export async function record(course: Course, scene: Scene): Promise<Recording> {
  const before = scene.now;
  const lines: Recording['lines'][number][] = [];
  const since: Recording['since'][number][] = [];
  let changes = 0;
  const held: { agent?: TestAgent; journal?: string } = {};
  let files = before.files;
  const note = () => {
    const now = scene.now;
    const folder = held.agent?.jobsFolder ?? '';
    const [name] = held.journal === undefined && existsSync(folder) ? readdirSync(folder) : [];
    // A start that is undone removes its journal: the journal is read to its end nevertheless.
    if (name !== undefined) held.journal = scene.keep(join(folder, name));
    const texts = held.journal === undefined ? [] : readFileSync(held.journal, 'utf8').split(/(?<=\n)/);
    const known = lines.length;
    for (const text of texts.slice(known)) {
      const entry = JSON.parse(text.slice(9)) as JournalEntry;
      files = filesAfter(files, entry, now.files);
      lines.push({ text, entry, world: { qemu: now.qemu, files }, holds: holdsOf(held.agent) });
    }
    files = now.files;
    if (scene.qemu.changes.length > changes && lines.length === known && known > 0)
      since.push({ line: known, world: now });
    changes = scene.qemu.changes.length;
  };
  scene.onCommand = note;
  await using agent = await scene.agent();
  held.agent = agent;
  course.faults?.(scene.qemu);
  const started = await course.start(agent, scene).catch((error: unknown) => {
    if (error instanceof BlockJobError) return undefined;
    throw error;
  });
  const job = started !== undefined && 'job' in started ? started.job.accepted.job : undefined;
  if (job !== undefined) await drive(course, job, { agent, qemu: scene.qemu, note });
  note();
  scene.onCommand = () => undefined;
  const [first] = lines;
  if (first?.entry.entry !== 'accepted') throw new Error('the course has no journal');
  return { job: first.entry.job, before, lines, since, end: scene.now };
}

function holdsOf(agent: TestAgent | undefined): ReadonlyMap<string, string> {
  const folder = agent?.holdsFolder ?? '';
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : [];
  return new Map(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

function filesAfter(files: SceneMoment['files'], entry: JournalEntry, now: SceneMoment['files']): SceneMoment['files'] {
  if (entry.entry !== 'step-done' && entry.entry !== 'undo-done') return files;
  if (!/^(create-destination|remove-destination|delete-)/.test(entry.step)) return files;
  const name = entry.step.startsWith('delete-') ? basename(entry.step) : 'copy';
  const file = now.get(name);
  const others = [...files].filter(([other]) => other !== name);
  return new Map(file === undefined ? others : [...others, [name, file]]);
}
