/** One job: its progress, the facts on disk with their evidence, and its history. */
import { type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt';
import {
  ImageFormat,
  type Job,
  Job_State,
  type JobEndPolicy,
  type JobEvent,
  JobKind,
  type Outcome,
  type PivotGate,
} from '../../generated/es/blockjob/v1/job_pb.js';
import { adviceOn } from '../advice.ts';
import { type Child, h } from '../dom.ts';
import type { Live } from '../live.ts';
import type { OpenedJob } from '../opened-job.ts';
import {
  bar,
  chip,
  current,
  destinationOf,
  domainHref,
  doneOf,
  facts,
  heading,
  lastKnown,
  nameOf,
  path,
  section,
  table,
  when,
} from '../parts.ts';
import { reasonIn } from '../reasons.ts';
import {
  bytes,
  CONTENTS,
  clock,
  EVIDENCE,
  isEnded,
  KINDS,
  moment,
  percent,
  rate,
  spaceInWords,
  stateWord,
  stepInWords,
  throttleInWords,
} from '../words.ts';
import { timeLeft } from './jobs.ts';

export function jobView(opened: OpenedJob, live: Live): Child[] {
  const { job, refusal, trouble } = opened;
  const trail = h('p', { class: 'trail' }, h('a', { href: '#/' }, 'Jobs'), ' / ', opened.jobId);
  if (refusal !== undefined) {
    return [trail, heading('No such job'), h('p', { class: 'none' }, refusal)];
  }
  if (job === undefined) return [trail, heading('Job'), h('p', { class: 'none' }, trouble ?? 'Asking…')];
  return [
    trail,
    heading(`${KINDS[job.kind]} of ${nameOf(job)}`, chip(stateWord(job.state, job.pauseReason))),
    trouble !== undefined &&
      h('p', { class: 'notice warn', 'data-key': 'trouble' }, `It cannot be asked for now: ${trouble}`),
    noticeOn(isEnded(job) ? job : current(job, live)),
    isEnded(job) ? undefined : progressOf(job, current(job, live)),
    job.endPolicy && section('End policy', stepsIn(job.endPolicy)),
    section('Where the data goes', flowOf(job)),
    section('Facts on disk', outcomeOf(job)),
    section('History', journalOf(opened.entries)),
    section('The job', detailsOf(job)),
  ];
}

function noticeOn(job: Job): Child {
  const advice = adviceOn(job);
  const { error } = job;
  if (advice === undefined && error === undefined) return undefined;
  const reason = error === undefined ? '' : reasonIn(error.details);
  return h(
    'div',
    { class: `notice ${advice?.tone ?? 'warn'}`, 'data-key': 'notice' },
    h('h2', {}, advice?.title ?? 'Why it ended'),
    error && h('p', { class: 'error' }, reason !== '' && h('code', {}, reason), ' ', error.message),
    advice && h('p', {}, advice.text),
  );
}

/** `now` is the job without its numbers if they are old. */
function progressOf(job: Job, now: Job): HTMLElement {
  const { progress, bandwidthBytesPerSecond: limit } = now;
  const isOld = now !== job;
  return section(
    'Progress',
    h(
      'div',
      { class: isOld ? 'far old' : 'far' },
      isOld ? lastKnown(job) : h('strong', {}, percent(progress?.percent ?? 0)),
      bar(job),
    ),
    facts(
      [
        ['Done', doneOf(now)],
        ['Remaining', progress && bytes(progress.remainingBytes)],
        ['Speed', progress && rate(progress.bytesPerSecond)],
        ['Guest writes', progress && rate(progress.dirtyBytesPerSecond)],
        ['Time left', isOld ? '–' : timeLeft(now)],
        ['Verdict', progress?.reason],
        ['Limit', limit === 0n ? 'none' : rate(limit)],
        ['Space', spaceInWords(now)],
        ['Guest', throttleInWords(now)],
      ],
      'figures',
    ),
    h('div', { class: 'plots' }, plot(now, 'speed', 'Speed'), plot(now, 'left', 'Remaining')),
  );
}

/** The steps for a copy that does not end, as far as they were taken. */
function stepsIn({ steps }: JobEndPolicy): HTMLElement {
  if (steps.length === 0) return h('p', { class: 'none' }, 'No step was needed so far.');
  const shown = steps.map((step) =>
    h('li', {}, stepInWords(step), h('span', { class: 'sub' }, step.time && atTime(step.time))),
  );
  return h('ol', { class: 'steps' }, ...shown);
}

function plot({ id, progress }: Job, what: 'speed' | 'left', title: string): HTMLElement {
  const now =
    progress === undefined
      ? 'no measurements now'
      : what === 'speed'
        ? `now ${rate(progress.bytesPerSecond)} copied, the guest writes ${rate(progress.dirtyBytesPerSecond)}`
        : `now ${bytes(progress.remainingBytes)}`;
  return h(
    'figure',
    {},
    h('figcaption', {}, title),
    h('div', {
      class: 'plot',
      role: 'img',
      'aria-label': `${title} over time: ${now}`,
      'data-kept': true,
      'data-plot': what,
      'data-job': id,
    }),
  );
}

/** The source, the destination, and the image of the guest. */
function flowOf(job: Job): HTMLElement {
  const guest = job.outcome?.guestWritesTo ?? '';
  const boxes = endsOf(job).map(([name, where]) =>
    h(
      'li',
      { class: where === guest ? 'image live' : 'image' },
      h('span', { class: 'what' }, name),
      where.startsWith('/') || where.includes(':') ? path(where) : where,
      where === guest && h('span', { class: 'tag' }, 'The guest writes here'),
    ),
  );
  return h('ol', { class: 'flow' }, ...boxes);
}

function endsOf({ kind, sourcePath, destination, options }: Job): readonly (readonly [name: string, where: string])[] {
  const base = options?.basePath ?? '';
  const top = options?.topPath ?? '';
  switch (kind) {
    case JobKind.COPY:
    case JobKind.UNSPECIFIED:
      return [
        ['Source', sourcePath],
        ['Destination', destinationOf(destination)],
      ];
    case JobKind.PULL:
      return [
        ['Data of', base === '' ? 'all images below' : `the images above ${base}`],
        ['Goes into', sourcePath],
      ];
    case JobKind.COMMIT:
    case JobKind.ACTIVE_COMMIT:
      return [
        ['Data of', top === '' ? sourcePath : top],
        ['Goes into', base],
      ];
  }
}

function outcomeOf(job: Job): HTMLElement {
  const { outcome } = job;
  if (outcome === undefined) return h('p', { class: 'none' }, 'Nothing is known yet.');
  const content = CONTENTS[outcome.destinationContent];
  const hasCopy = destinationOf(job.destination) !== '';
  return h(
    'div',
    {},
    facts([
      ...guestIn(job, outcome),
      ['Set the configuration back to', outcome.setConfigBackTo !== '' && path(outcome.setConfigBackTo)],
      ['The copy', hasCopy && copyIn(outcome, content.text)],
      ['The copy has changed', changedBy(outcome.destinationChangedByJobId)],
      ['Complete as of', outcome.asOf && atTime(outcome.asOf)],
      ['May be deleted', safeToDelete(outcome)],
    ]),
    h('h3', {}, 'Evidence'),
    outcome.evidence.length === 0
      ? h('p', { class: 'none' }, 'There is no evidence yet; the journal and QEMU are asked when the job ends.')
      : h(
          'ul',
          { class: 'evidence' },
          ...outcome.evidence.map(({ source, text, revision }) =>
            h(
              'li',
              {},
              h('b', {}, EVIDENCE[source]),
              ' ',
              text,
              revision > 0n && h('span', { class: 'sub' }, `revision ${revision}`),
            ),
          ),
        ),
  );
}

/** An ended job knows where the guest was at its end; a later job may know where it is now. */
function guestIn(job: Job, { guestWritesTo, nextStartPath, guestAsOf, guestChangedByJobId: by }: Outcome) {
  const [ended, next] = [isEnded(job), path(nextStartPath)];
  const rows: [string, Child][] = [[by === '' ? 'The guest writes to' : 'The guest wrote to', path(guestWritesTo)]];
  if (by !== '') rows.push(['That has changed', changedBy(by)]);
  else if (ended && nextStartPath !== '') rows.push(['Start the VM next time with', next]);
  if (ended) rows.push([by === '' ? 'That was so' : 'Until then, as of', guestAsOf && atTime(guestAsOf)]);
  return rows;
}

function changedBy(job: string): Child {
  return job !== '' && h('span', {}, 'by job ', h('a', { href: `#/jobs/${encodeURIComponent(job)}` }, job));
}

function copyIn(outcome: Outcome, text: string): Child {
  if (outcome.destinationRemoved) return 'Removed: it was incomplete, and this job had made it.';
  return h('span', {}, h('b', {}, CONTENTS[outcome.destinationContent].word), ': ', text);
}

function safeToDelete({ safeToDelete: files }: Outcome): Child {
  if (files.length === 0) return 'Nothing';
  return h(
    'ul',
    {},
    ...files.map((file) =>
      h('li', {}, path(file.path), file.warning !== '' && h('span', { class: 'sub' }, file.warning)),
    ),
  );
}

function journalOf(entries: readonly JobEvent[]): HTMLElement {
  if (entries.length === 0) return h('p', { class: 'none' }, 'Asking…');
  const rows = entries.map(({ revision, time, job, detail }) =>
    h(
      'tr',
      { 'data-key': String(revision) },
      h('td', { class: 'number' }, String(revision)),
      h('td', { class: 'nowrap' }, time === undefined ? '' : clock(timestampDate(time))),
      h('td', { class: 'nowrap' }, job === undefined ? '' : stateWord(job.state, job.pauseReason).word),
      h('td', {}, detail),
    ),
  );
  return table(
    'The journal of this job',
    [h('span', { class: 'number' }, 'No.'), 'Time', 'State', 'Entry'],
    rows,
    'journal',
  );
}

function gateIn({ token, nextStartPath, recordTime }: PivotGate): Child {
  const record = recordTime === undefined ? ', not recorded yet' : ', recorded ';
  return h('span', {}, h('code', {}, token), ' for ', path(nextStartPath), record, recordTime && atTime(recordTime));
}

function detailsOf(job: Job): HTMLElement {
  const { options, destination } = job;
  const switches = [
    options?.shallow === true && 'shallow',
    options?.reuseExternal === true && 'reuse_external',
    options?.relativeBacking === true && 'relative_backing',
    options?.deleteCommitted === true && 'delete_committed',
  ].filter((one) => one !== false);
  const format = destination?.format ?? ImageFormat.UNSPECIFIED;
  return facts([
    ['Id', h('code', {}, job.id)],
    ['Domain', h('a', { href: domainHref(job.disk?.domain ?? '') }, job.disk?.domain ?? '')],
    ['Host', job.host],
    ['Format', format === ImageFormat.UNSPECIFIED ? undefined : (ImageFormat[format] ?? '').toLowerCase()],
    ['Encryption', destination?.encryption && `LUKS, secret ${destination.encryption.secretId || 'not known'}`],
    ['Options', switches.join(', ')],
    ['Started', job.createTime && atTime(job.createTime)],
    ['Ready', job.readyTime && atTime(job.readyTime)],
    ['Gate', job.pivotGate && gateIn(job.pivotGate)],
    ['Ended', job.endTime && atTime(job.endTime)],
    ['Request id', job.requestId !== '' && h('code', {}, job.requestId)],
    ['Measured', job.state === Job_State.RUNNING && job.progress?.sampleTime && when(job.progress.sampleTime)],
  ]);
}

function atTime(time: Timestamp): Child {
  const date = timestampDate(time);
  return h('time', { datetime: date.toISOString() }, moment(date));
}
