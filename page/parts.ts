/** Small parts that several views share. */

import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Destination, Job } from '../generated/es/blockjob/v1/job_pb.js';
import { type Child, h, svg } from './dom.ts';
import type { Live } from './live.ts';
import { ago, bytes, clock, moment, percent, type Tone, type Word } from './words.ts';

/** A shape for each tone, so that they differ not only in colour. */
const SHAPES: Readonly<Record<Tone, string>> = {
  calm: 'M4 8h8',
  busy: 'M8 2.5a5.5 5.5 0 1 1-5.2 3.7',
  good: 'M3.5 8.5l3 3 6-7',
  warn: 'M5.75 3.5v9M10.25 3.5v9',
  bad: 'M4 4l8 8M12 4l-8 8',
};

export function chip({ word, tone }: Word): HTMLElement {
  const icon = svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d: SHAPES[tone] }));
  return h('span', { class: `chip ${tone}` }, icon, word);
}

/** A path or the like; it may break anywhere, because it is longer than any column. */
export function path(text: string): HTMLElement {
  return h('code', { class: 'path' }, text === '' ? 'not known' : text);
}

export function when(time: Timestamp | undefined, now = new Date()): Child {
  if (time === undefined) return '–';
  const date = timestampDate(time);
  return h('time', { datetime: date.toISOString(), title: moment(date) }, ago(date, now));
}

/** The time of an answer that is asked for seldom. */
export function asOf(time: Date | undefined): Child {
  return time && `as of ${clock(time)}`;
}

/** Rows of names and values; those without a value are left out. */
export function facts(rows: readonly (readonly [string, Child])[], name = 'facts'): HTMLElement {
  const shown = rows.filter(([, value]) => value !== undefined && value !== '' && value !== false);
  return h('dl', { class: name }, ...shown.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

/** The head of a view; it stays the same element, because the focus is put there. */
export function heading(title: Child, ...beside: readonly Child[]): HTMLElement {
  return h('div', { class: 'title', 'data-key': 'title' }, h('h1', { tabindex: -1 }, title), ...beside);
}

export function section(title: string, ...children: readonly Child[]): HTMLElement {
  const id = `section-${title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
  return h('section', { 'aria-labelledby': id, 'data-key': id }, h('h2', { id }, title), ...children);
}

/** A table with a name; wide ones scroll inside, by keyboard too. */
export function table(name: string, heads: readonly Child[], rows: readonly HTMLElement[], kind = ''): HTMLElement {
  const head = h('thead', {}, h('tr', {}, ...heads.map((one) => h('th', { scope: 'col' }, one))));
  return h(
    'div',
    { class: 'scroll', role: 'region', 'aria-label': name, tabindex: 0 },
    h('table', { class: kind }, h('caption', { class: 'hidden' }, name), head, h('tbody', {}, ...rows)),
  );
}

export function nameOf({ disk }: Job): string {
  return `${disk?.domain ?? ''} ${disk?.disk ?? ''}`;
}

export function destinationOf(destination: Destination | undefined): string {
  const target = destination?.target;
  if (target?.case === 'nbd') {
    const { server, exportName } = target.value;
    const at = server.case === 'tcp' ? `${server.value.host}:${server.value.port}` : `unix:${server.value ?? ''}`;
    return `nbd://${at}/${exportName}`;
  }
  return target?.value ?? '';
}

/** The job without its numbers if they are old. */
export function current(job: Job, { jobs }: Pick<Live, 'jobs'>): Job {
  if (jobs.isCurrent(job)) return job;
  const { progress: _old, ...rest } = job;
  return rest;
}

/** The last progress of an active job whose numbers are old. */
export function lastKnown({ progress }: Job): Child {
  return progress && h('span', { class: 'old' }, `was ${percent(progress.percent)}, `, when(progress.sampleTime));
}

export function bar(job: Job): HTMLElement {
  const value = job.progress?.percent ?? 0;
  return h('progress', { value, max: 100, 'aria-label': `Progress of ${nameOf(job)}` }, percent(value));
}

export function doneOf({ progress }: Job): string {
  return progress === undefined ? '' : `${bytes(progress.currentBytes)} of ${bytes(progress.endBytes)}`;
}

export function jobHref({ id }: Job): string {
  return `#/jobs/${encodeURIComponent(id)}`;
}

export function domainHref(name: string): string {
  return `#/domains/${encodeURIComponent(name)}`;
}
