/** All jobs: the running ones, those that need attention first; and the ended ones, newest first. */
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { Convergence, type Job, Job_State } from '../../generated/es/blockjob/v1/job_pb.js';
import { adviceOn } from '../advice.ts';
import { type Child, h } from '../dom.ts';
import type { Live } from '../live.ts';
import {
  asOf,
  bar,
  chip,
  current,
  destinationOf,
  doneOf,
  heading,
  jobHref,
  lastKnown,
  path,
  section,
  table,
  when,
} from '../parts.ts';
import { CONTENTS, duration, KINDS, percent, rate, stateWord } from '../words.ts';
import { domainsTable } from './domains.ts';

/** So few need no filter. */
const FEW = 8;

export function jobsView(live: Live, filter: string): Child[] {
  const { ended } = live;
  const { running } = live.jobs;
  const isWanted = (job: Job) => textOf(job).includes(filter.toLowerCase());
  const [shownRunning, shownEnded] = [running.filter(isWanted), ended.filter(isWanted)];
  if (running.length + ended.length === 0) return emptyView(live);
  const isMany = running.length + ended.length > FEW || filter !== '';
  return [
    heading('Jobs', h('p', { class: 'summary' }, summaryOf(live)), isMany && filterField()),
    section(
      'Running',
      shownRunning.length === 0
        ? h('p', { class: 'none' }, filter === '' ? 'No job is running.' : 'No running job matches.')
        : runningTable(shownRunning, live),
    ),
    section(
      'Ended',
      shownEnded.length === 0
        ? h('p', { class: 'none' }, filter === '' ? 'No job has ended yet.' : 'No ended job matches.')
        : endedTable(shownEnded),
      live.hasMoreEnded && h('button', { type: 'button', 'data-do': 'more' }, 'Show older ones'),
    ),
  ];
}

function emptyView({ domains, domainsAsOf, jobs }: Live): Child[] {
  return [
    heading('Jobs'),
    h(
      'div',
      { class: 'empty' },
      h('h2', {}, 'No data is being moved'),
      h(
        'p',
        {},
        'No job is running, and none has ended. A job appears here as soon as it is started, with ',
        h('code', {}, 'StartCopy'),
        ', ',
        h('code', {}, 'Rebase'),
        ' or ',
        h('code', {}, 'Commit'),
        ', with its progress and then its outcome.',
      ),
    ),
    section(
      'Virtual machines',
      h('p', { class: 'summary' }, asOf(domainsAsOf)),
      domains.length === 0
        ? h(
            'p',
            { class: 'none' },
            'The service has found none yet. Is QEMU running, with a monitor of its own for it?',
          )
        : domainsTable(domains, jobs.running),
    ),
  ];
}

function summaryOf(live: Live): string {
  const { jobs, ended, hasMoreEnded } = live;
  const { running } = jobs;
  const ready = running.filter(({ state }) => state === Job_State.READY).length;
  const troubled = running.filter((job) => isTroubled(current(job, live))).length;
  const parts = [
    `${running.length} running`,
    ...(ready > 0 ? [`${ready} of them ready`] : []),
    ...(troubled > 0 ? [`${troubled} in need of attention`] : []),
    `${ended.length}${hasMoreEnded ? ' or more' : ''} ended`,
  ];
  return parts.join(' · ');
}

function filterField(): HTMLElement {
  return h(
    'label',
    { class: 'filter' },
    h('span', { class: 'hidden' }, 'Show only jobs with'),
    h('input', {
      type: 'search',
      placeholder: 'Domain, disk, path or state',
      'data-do': 'filter',
      spellcheck: 'false',
    }),
  );
}

function textOf(job: Job): string {
  const { word } = stateWord(job.state, job.pauseReason);
  const words = [
    job.disk?.domain,
    job.disk?.disk,
    job.id,
    job.host,
    job.sourcePath,
    destinationOf(job.destination),
    word,
  ];
  return words.join(' ').toLowerCase();
}

function runningTable(jobs: readonly Job[], live: Live): HTMLElement {
  const rank = (job: Job) => Number(isTroubled(current(job, live)));
  const inOrder = jobs.toSorted((a, b) => rank(b) - rank(a) || byName(a, b));
  const heads = [
    'Disk',
    'State',
    'Progress',
    numeric('Speed'),
    numeric('Guest writes'),
    numeric('Time left'),
    'Last minute',
  ];
  return table(
    'Running jobs',
    heads,
    inOrder.map((job) => runningRow(job, current(job, live))),
    'jobs running',
  );
}

/** `now` is the job without its numbers if they are old. */
function runningRow(job: Job, now: Job): HTMLElement {
  const { progress, guestThrottle: slowed } = now;
  const isOld = now !== job;
  return h(
    'tr',
    { 'data-key': job.id, class: isOld && 'old' },
    diskCell(job),
    h('td', {}, chip(stateWord(job.state, job.pauseReason))),
    h(
      'td',
      { class: 'progress' },
      bar(job),
      isOld
        ? lastKnown(job)
        : h('span', { class: 'of' }, h('b', {}, percent(progress?.percent ?? 0)), ' ', doneOf(job)),
    ),
    h('td', { class: 'number' }, progress === undefined ? '–' : rate(progress.bytesPerSecond)),
    h(
      'td',
      { class: 'number' },
      progress === undefined ? '–' : rate(progress.dirtyBytesPerSecond),
      slowed && h('span', { class: 'sub' }, `throttled to ${rate(slowed.limitBytesPerSecond)}`),
    ),
    h('td', { class: 'number' }, isOld ? '–' : timeLeft(now)),
    h(
      'td',
      {},
      h('div', {
        class: 'small-plot',
        'data-kept': true,
        'data-plot': 'small',
        'data-job': job.id,
        'aria-hidden': 'true',
      }),
    ),
  );
}

export function timeLeft({ state, progress }: Job): string {
  if (state === Job_State.PIVOTING || state === Job_State.CANCELLING) return 'ending';
  switch (progress?.convergence) {
    case Convergence.SETTLED:
      return 'in step';
    case Convergence.STALLED:
    case Convergence.DIVERGING:
      return progress.demandBytesPerSecond > 0n ? 'never at this rate' : 'stalled';
    default:
      return progress?.eta === undefined ? '–' : duration(Number(progress.eta.seconds) + progress.eta.nanos / 1e9);
  }
}

function endedTable(jobs: readonly Job[]): HTMLElement {
  const heads = ['Disk', 'Outcome', 'The guest writes to', 'Copy', numeric('Took'), 'Ended'];
  return table('Ended jobs', heads, jobs.map(endedRow), 'jobs ended');
}

function endedRow(job: Job): HTMLElement {
  const { outcome, error } = job;
  const content = CONTENTS[outcome?.destinationContent ?? 0];
  const took =
    job.createTime && job.endTime ? duration((timestampMs(job.endTime) - timestampMs(job.createTime)) / 1000) : '–';
  return h(
    'tr',
    { 'data-key': job.id },
    diskCell(job),
    h(
      'td',
      { class: 'outcome' },
      chip(stateWord(job.state, job.pauseReason)),
      error && h('p', { class: 'why' }, error.message),
    ),
    h('td', {}, path(outcome?.guestWritesTo ?? ''), changedSince(outcome?.guestChangedByJobId)),
    h(
      'td',
      {},
      outcome?.destinationRemoved === true ? 'Removed' : content.word,
      changedSince(outcome?.destinationChangedByJobId),
    ),
    h('td', { class: 'number' }, took),
    h('td', { class: 'nowrap' }, when(job.endTime)),
  );
}

/** That value is history: a later job knows the present one. */
function changedSince(by: string | undefined): Child {
  return by !== undefined && by !== '' && h('span', { class: 'sub' }, 'until a later job');
}

function diskCell(job: Job): HTMLElement {
  const to = destinationOf(job.destination);
  return h(
    'th',
    { scope: 'row' },
    h('a', { href: jobHref(job) }, h('b', {}, job.disk?.domain ?? ''), ' ', job.disk?.disk ?? ''),
    h('span', { class: 'sub', title: to }, KINDS[job.kind], to === '' ? '' : ' to ', to !== '' && path(to)),
  );
}

function numeric(text: string): HTMLElement {
  return h('span', { class: 'number' }, text);
}

function isTroubled(job: Job): boolean {
  return adviceOn(job)?.tone === 'warn';
}

function byName(a: Job, b: Job): number {
  return `${a.disk?.domain} ${a.disk?.disk}`.localeCompare(`${b.disk?.domain} ${b.disk?.disk}`, 'en', {
    numeric: true,
  });
}
