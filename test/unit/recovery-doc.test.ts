/** docs/recovery.md and its pages agree with the code: each state, each entry, each ending, each row of the table. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DestinationContent, Job_State, PauseReason } from '../../generated/blockjob/v1/job.ts';
import { encodeLine } from '../../src/agent/journal/journal.ts';
import type { Leftover } from '../../src/core/block-jobs.ts';
import { ending } from '../../src/core/job/ending.ts';
import { concludedJob } from '../../src/core/job/job.ts';
import type { Accepted, Concluded, EntryBody, JournalEntry } from '../../src/core/job/journal-entry.ts';
import { outcomeAtEnd } from '../../src/core/job/outcome-of.ts';
import { ALLOWED } from '../../src/core/job/transitions.ts';
import type { JobKind } from '../../src/core/job-options.ts';
import { TABLE as NEXT_MOVES } from '../../src/core/moves/next-move.ts';
import { DocPage, fencedIn } from '../support/doc-page.ts';
import { REPOSITORY } from '../support/service/service.ts';
import {
  ACTIVE_COMMIT,
  CANCEL,
  COMMIT,
  CREATED,
  DATA_FLUSHED,
  DESTINATION,
  FINISH,
  FOLLOWED,
  FORCE,
  HANDOVER,
  HEADER_FLUSHED,
  JOB,
  jobWith,
  PULL,
  pivot,
  READY,
  RUNNING,
  SOURCE,
} from './core/stories.ts';

const LOOK = new DocPage('recovery.md');
const [JOURNAL, ENDINGS, LEFTOVERS] = ['journal', 'endings', 'leftovers'].map(
  (name) => new DocPage(`recovery/${name}.md`),
) as [DocPage, DocPage, DocPage];
const TABLE = join(REPOSITORY, 'docs/recovery/how-it-decides.md');

test('every state is in its table, in the order of a life', () => {
  const states = Object.keys(Job_State).filter((name) => !/UNSPECIFIED|UNRECOGNIZED/.test(name));
  const told = LOOK.section('First look')
    .tables.flat()
    .flatMap(([state = '']) => state.split(', '));
  expect(told.map((state) => `STATE_${state}`)).toEqual(states);
});

test('every kind of journal entry is explained', () => {
  const told = JOURNAL.tables.flat().flatMap(([entries = '']) => entries.split(', '));
  expect(told.toSorted()).toEqual(Object.keys(ALLOWED).toSorted());
});

test('the line of a journal that it shows is valid, and matches its explanation', () => {
  const lines = fencedIn(JOURNAL.text, 'text').flatMap((block) => block.split('\n'));
  const shown = lines.filter((line) => line.includes('{'));
  expect(shown).toHaveLength(1);
  for (const line of shown) {
    const entry = JSON.parse(line.slice(9)) as JournalEntry & Concluded;
    expect(encodeLine(entry)).toBe(`${line}\n`);
    const { revision, time, entry: kind, how } = entry;
    expect(lines.some((told) => told.startsWith(`${revision} ${time.slice(11, 19)} ${kind} ${how} `))).toBe(true);
  }
});

test('every content and every reason of a pause is named', () => {
  const names = [...Object.keys(DestinationContent), ...Object.keys(PauseReason)]
    .filter((name) => name !== 'UNRECOGNIZED')
    .map((name) => name.replace(/^(DESTINATION_CONTENT|PAUSE_REASON)_/, ''));
  const pages = readdirSync(join(REPOSITORY, 'docs/recovery')).map((name) => new DocPage(`recovery/${name}`).text);
  const text = [LOOK.text, ...pages].join('\n');
  expect(names.filter((name) => !new RegExp(String.raw`\b${name}\b`).test(text))).toEqual([]);
});

test('every kind of leftover is explained', () => {
  const kinds: Readonly<Record<Leftover['kind'], true>> = { FILE: true, NODE: true, QEMU_JOB: true, THROTTLE: true };
  expect(LEFTOVERS.tables.flat().map(([kind]) => kind)).toEqual(Object.keys(kinds));
});

test('the endings that it lists are the existing ones, and so are the files that may be deleted after each', () => {
  const told = ENDINGS.tables.flat().map((row) => row.slice(0, 3).join(' | '));
  expect(told.toSorted()).toEqual(endings().toSorted());
});

/** The page ends with it: `make rewrite-docs` writes it, and this test checks it. */
test('its table is the one of next-move', () => {
  const rows = NEXT_MOVES.map(({ job, qemu, does }) => `| ${job} | ${qemu} | ${does} |\n`);
  const written = `| the job is | and QEMU | then the service |\n|---|---|---|\n${rows.join('')}`;
  const text = readFileSync(TABLE, 'utf8');
  const at = text.indexOf('| the job is |');
  if (process.env['REWRITE_DOCS'] !== undefined) writeFileSync(TABLE, text.slice(0, at) + written);
  expect(readFileSync(TABLE, 'utf8').slice(at)).toBe(written);
});

/** `state | content | the files that may be deleted`, of every job that can conclude, in every way in which it can. */
function endings(): readonly string[] {
  const deletable = new Map<string, Set<string>>();
  for (const { accepted, entries, concluded } of conclusions()) {
    const job = concludedJob(jobWith(accepted, ...entries, concluded));
    const { state } = ending(job);
    const { destinationContent = 'none', safeToDelete } = outcomeAtEnd(job);
    const key = `${state} | ${destinationContent}`;
    const paths = deletable.get(key) ?? new Set();
    for (const { path } of safeToDelete) paths.add(path);
    deletable.set(key, paths);
  }
  return [...deletable].map(([key, paths]) => `${key} | ${inWords([...paths].toSorted())}`);
}

const LOWER = '/vm/snap1.qcow2';

/** The paths that some of the jobs with this end name, and the others do not. */
function inWords(paths: readonly string[]): string {
  const words: Readonly<Record<string, string>> = {
    '': 'nothing',
    [DESTINATION]: 'the copy, if this job made it',
    [SOURCE]: 'after a pivot the old image',
    [LOWER]: 'the committed images',
  };
  return words[paths.join()] ?? paths.join();
}

const KINDS: Readonly<Record<JobKind, Partial<Accepted>>> = {
  COPY: {},
  PULL,
  COMMIT: { ...COMMIT, committed: [{ path: LOWER, device: '7', inode: '41', birthTimeNs: '1' }] },
  ACTIVE_COMMIT,
};

const BEFORE_READY: readonly (readonly EntryBody[])[] = [[], [CANCEL], [FORCE]];
const AFTER_READY: readonly (readonly EntryBody[])[] = [
  [],
  [CANCEL, FOLLOWED],
  [FORCE],
  [FINISH, FOLLOWED],
  [pivot()],
  [pivot(), FORCE],
];

function* conclusions() {
  for (const more of Object.values(KINDS)) {
    const hasDestination = !('destination' in more && more.destination === undefined);
    const lives = [...BEFORE_READY, ...(hasDestination ? AFTER_READY.map((life) => [READY, ...life]) : [])];
    for (const life of lives) {
      for (const told of waysToConclude(hasDestination))
        for (const concluded of hasDestination ? [told] : headersOf(told)) {
          const isCopy = more.kind === undefined;
          const flushed = hasDestination ? [] : [DATA_FLUSHED, HEADER_FLUSHED];
          const handover = hasDestination ? {} : { handover: HANDOVER };
          const accepted = { ...more, ...handover };
          yield { accepted, entries: [...(isCopy ? [CREATED] : []), RUNNING, ...life, ...flushed], concluded };
          yield {
            accepted: { ...accepted, recovered: true } as const,
            entries: [RUNNING, ...life, ...flushed],
            concluded,
          };
        }
    }
  }
}

/** The possible headers on disk of a job that ends in a header. */
function headersOf(concluded: Concluded): readonly Concluded[] {
  if (concluded.qemuError !== undefined) return [concluded];
  const headers = [{ is: 'NEW' }, { is: 'OLD', backingFile: LOWER }, { is: 'UNKNOWN', why: 'said the test' }] as const;
  return headers.map((header) => ({ ...concluded, header }));
}

function* waysToConclude(hasDestination: boolean): Generator<Concluded> {
  const nowhere = { entry: 'concluded', deviceOn: 'NOWHERE', devicePath: undefined, qemuError: undefined } as const;
  yield { ...nowhere, how: 'QEMU_ENDED' };
  yield { ...nowhere, how: 'GIVEN_UP' };
  const places = { SOURCE, DESTINATION, ELSEWHERE: `/other/${JOB}`, NOWHERE: undefined } as const;
  for (const deviceOn of ['SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const) {
    if (deviceOn === 'DESTINATION' && !hasDestination) continue;
    const where = { entry: 'concluded', deviceOn, devicePath: places[deviceOn] } as const;
    yield { ...where, how: 'VANISHED', qemuError: undefined };
    for (const qemuError of [undefined, 'Operation canceled', 'Input/output error']) {
      yield { ...where, how: 'CONCLUDED', qemuError };
    }
  }
}
