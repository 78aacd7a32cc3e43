/** Each sentence of the contract that promises something, and the test that holds it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { REPOSITORY } from '../support/service/service.ts';
import { BLOCK_JOB_SERVICE } from './promises/block-job-service.ts';
import { DOMAIN_SERVICE, SERVER_SERVICE } from './promises/domain-service.ts';
import { ERROR_REASON, ERROR_REASON_DESCRIBES } from './promises/error-reason.ts';
import { JOB } from './promises/job.ts';
import type { Row } from './promises/row.ts';

const FOLDER = join(REPOSITORY, 'proto/blockjob/v1');

interface Sentence {
  readonly file: string;
  readonly text: string;
}

/** The sentences of all comments, each on one line. */
const SENTENCES: readonly Sentence[] = readdirSync(FOLDER).flatMap((name) => {
  const comments = readFileSync(join(FOLDER, name), 'utf8').match(/(?:^ *\/\/.*\n)+/gm) ?? [];
  return comments
    .flatMap((comment) =>
      comment.split(/^ *\/\/\s*(?:- .*)?$/m).concat(comment.match(/^ *\/\/ - .*(?:\n *\/\/ {3}.*)*/gm) ?? []),
    )
    .flatMap((part) =>
      part
        .replaceAll(/^ *\/\/(?: -)? ?/gm, '')
        .replaceAll(/\s+/g, ' ')
        .split(/(?<=[.;:]\)?) (?=[A-Z(`])/),
    )
    .map((sentence) => ({ file: name, text: sentence.trim() }));
});

const PROMISES =
  /\b(?:must|never|always|at most|fails? (?:as|with|also)|refused|idempotent|default|ordered|order|kept|repeated|repetition|only|otherwise|means|up to|once|absent|empty)\b/i;

/** They hold sentences of any file. */
const OF_ALL: readonly Row[] = [
  [
    'unit/core/calls.test.ts',
    'fails with the reasons that its comment names, and no other',
    /^Fails (?:as|with|also)/,
    'Besides the reasons named at each call',
  ],
  ['unit/grpc/bounds.test.ts', 'the contract says each bound at its field', /At most \d+/i],
  [
    'unit/grpc/annotations.test.ts',
    'is REQUIRED where its comment says so, in each message that may be asked with',
    /^Required\.$/,
  ],
  ['unit/core/job/job-event.test.ts', 'journal entr', 'Every journal entry is one event'],
  [
    'unit/core/rules/list.test.ts',
    'refuses a token that was given for other fields, and takes another size',
    'The other fields must be the same as for that page, except page_size',
    /^Empty for the first page/,
  ],
  [
    'unit/core/rules/list.test.ts',
    'has 100 items a page if not said otherwise, and never more than 500',
    '0 means 100; more than 500 means 500.',
  ],
  ['unit/core/rules/list.test.ts', 'refuses a negative size and a token of another list', 'FIELD_INVALID if negative.'],
  ['unit/core/rules/list.test.ts', 'has no next page at its very end, nor when it is empty', 'Empty on the last page.'],
  [
    'unit/core/rules/list.test.ts',
    'holds every item once, in order, however small the pages are',
    'none is listed twice',
  ],
  [
    'unit/core/rules/list.test.ts',
    'has foreign jobs on its first page, unless ended jobs alone are asked for',
    'All of them are on the first page',
  ],
  ['unit/core/rules/list.test.ts', 'is a second if not said otherwise', 'Absent means 1 second.'],
  ['unit/core/rules/list.test.ts', 'cannot be %d ms', '100 milliseconds to 1 hour, otherwise FIELD_INVALID.'],
  [
    'contract/block-jobs.test.ts',
    'each watch of a job gets progress at its own interval',
    'The least time between two PROGRESS events of this watch.',
  ],
  [
    'contract/block-jobs.test.ts',
    'a watch tells every revision once, in order, to each who comes, from where it wants',
    'Journal entries are never dropped, however slow the reader',
  ],
  [
    'unit/core/job/progress.test.ts',
    'has an ETA where it converges or is READY, and only there',
    'Present when the convergence is CONVERGING or SETTLED, and only then',
  ],
  [
    'unit/core/job/progress.test.ts',
    'has a percentage from 0 to 100 that never goes back and is 100 exactly when READY',
    'It never decreases, although end_bytes grows, except after a restart of the service.',
    '100 only when READY or COMPLETED.',
  ],
  [
    'unit/core/job/progress.test.ts',
    'has current equal to end only when READY, never above it, and an end of at least 1',
    'Equal to end_bytes only when the job is READY or COMPLETED',
  ],
  [
    'unit/core/job/convergence.test.ts',
    'is not known before two windows, nor while QEMU reports no amount',
    'before two windows of two seconds each, and while QEMU reports no amount.',
  ],
  [
    'unit/core/job/convergence.test.ts',
    'changes when two windows agree, and not before',
    'and changes when two of these computations agree.',
  ],
  [
    'unit/core/job/convergence.test.ts',
    'of a READY copy is SETTLED only if the rest is gone within a second',
    'The job is READY, and the remaining bytes are copied within a second',
  ],
  [
    'unit/core/job/progress.test.ts',
    'of a job that failed has no verdict, and no ETA',
    'UNSPECIFIED for an ended job, except COMPLETED.',
  ],
  [
    'unit/core/job/progress.test.ts',
    'are those of a copy in step once it is READY with nothing left, at once',
    'Empty if there is nothing to say.',
  ],
  ['unit/agent/job/sampler.test.ts', 'asks a VM two questions every two seconds', 'every two seconds, at GetInfo'],
  [
    'unit/grpc/status.test.ts',
    'is in each UNAVAILABLE, and in each RESOURCE_EXHAUSTED where waiting helps, and in no other',
    'UNAVAILABLE and RESOURCE_EXHAUSTED a google.rpc.RetryInfo where waiting helps',
  ],
  [
    'unit/core/rules/abort.test.ts',
    'cannot pivot by force',
    'FLAGS_EXCLUSIVE (pivot and force)',
    'With pivot it is refused with FLAGS_EXCLUSIVE.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'is a granularity that is not 0 or a power of two from 512 to 64 MiB',
    'a power of two, 512 to 67108864 (64 MiB), otherwise GRANULARITY_INVALID.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'is a buffer below 0 or beyond 256 MiB',
    'up to 268435456 (256 MiB), otherwise BUFFER_INVALID.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'is nothing about a speed of 0, 1 or 2^63-1',
    '0 to 2^63-1, otherwise BANDWIDTH_OUT_OF_RANGE.',
  ],
  [
    'unit/core/rules/start-copy.test.ts',
    'has a default for all that was not given, and leaves the format to the source',
    /^UNSPECIFIED means /,
    /^The same as [A-Z]+\.$/,
  ],
  ['qemu/request-id.test.ts', 'of a call that was refused is free', 'The id of a refused call is not kept'],
  [
    'qemu/request-id.test.ts',
    'holds for every kind of start, across a crash of the service, and when the job has ended',
    /^Idempotent with a request_id/,
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'during StartCopy: the copy starts all the same',
    'If the deadline of a call expires, or its client cancels or disconnects, only the waiting ends.',
    'The work always continues, and the job is not touched.',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'during GetInfo and WatchJob: the job goes on',
    'The end of a watch, or its deadline, never touches the job.',
  ],
  [
    'qemu/callers-that-leave.test.ts',
    'during an Abort that waits, pivot %s: it ends as asked',
    'If the client disconnects, the job ends nevertheless.',
    'Once the request is in the journal, the service carries it out, even after a restart.',
  ],
  [
    'qemu/plans.test.ts',
    'that is no longer true starts nothing: PLAN_CHANGED',
    'If the plan would be different now, the call is refused with PLAN_CHANGED.',
    'Starts only if the plan still has this Plan.etag',
  ],
  [
    'unit/core/job/retention.test.ts',
    'are forgotten when they are too old',
    'Ended jobs are kept until they are pruned by age or number.',
  ],
];

/** They hold sentences of one file. */
const OF_FILE: Readonly<Record<string, readonly Row[]>> = {
  'block_job_service.proto': BLOCK_JOB_SERVICE,
  'domain_service.proto': DOMAIN_SERVICE,
  'error_reason.proto': ERROR_REASON,
  'job.proto': JOB,
  'server_service.proto': SERVER_SERVICE,
};

/** Whole sentences that have a promising word, and promise nothing. */
const DESCRIBES: readonly string[] = [...ERROR_REASON_DESCRIBES];

type Part = Row[2];
const partsOf = (rows: readonly Row[]) => rows.flatMap(([, , ...parts]) => parts);
const holds = (part: Part, text: string) => (typeof part === 'string' ? text.includes(part) : part.test(text));
const isHeld = ({ file, text }: Sentence) =>
  partsOf([...OF_ALL, ...(OF_FILE[file] ?? [])]).some((part) => holds(part, text));
const holdsNothing = (part: Part, sentences: readonly Sentence[]) => !sentences.some(({ text }) => holds(part, text));

const promising = SENTENCES.filter(({ text }) => PROMISES.test(text));
const held = promising.filter(isHeld);
const notYet = promising.filter((sentence) => !isHeld(sentence) && !DESCRIBES.includes(sentence.text));

test(`${held.length} sentences of the contract are held by a test`, () => {
  expect(partsOf(OF_ALL).filter((part) => holdsNothing(part, SENTENCES))).toEqual([]);
  for (const [name, rows] of Object.entries(OF_FILE)) {
    const own = SENTENCES.filter(({ file }) => file === name);
    expect(partsOf(rows).filter((part) => holdsNothing(part, own))).toEqual([]);
  }
});

test('a sentence that promises nothing exists, and no test holds it', () => {
  const found = promising.filter(({ text }) => DESCRIBES.includes(text));
  expect(new Set(found.map(({ text }) => text))).toEqual(new Set(DESCRIBES));
  expect(found.filter(isHeld)).toEqual([]);
});

test('each test that holds a sentence exists', () => {
  const rows = [...OF_ALL, ...Object.values(OF_FILE).flat()];
  const missing = rows.filter(([file, name]) => !readFileSync(join(REPOSITORY, 'test', file), 'utf8').includes(name));
  expect(missing).toEqual([]);
});

test('no sentence with a promising word is held by nothing', () => {
  expect(notYet.map(({ text }) => text)).toEqual([]);
});
