/** All virtual machines. */
import { type Domain, GuestState } from '../../generated/es/blockjob/v1/domain_service_pb.js';
import type { Job } from '../../generated/es/blockjob/v1/job_pb.js';
import { type Child, h } from '../dom.ts';
import type { Live } from '../live.ts';
import { asOf, chip, domainHref, heading, table } from '../parts.ts';
import type { Word } from '../words.ts';

const GUESTS: Readonly<Record<GuestState, Word>> = {
  [GuestState.UNSPECIFIED]: { word: 'Not known', tone: 'warn' },
  [GuestState.RUNNING]: { word: 'Running', tone: 'good' },
  [GuestState.PAUSED]: { word: 'Paused', tone: 'warn' },
  [GuestState.IO_ERROR]: { word: 'I/O error', tone: 'bad' },
  [GuestState.MIGRATING]: { word: 'Migrating', tone: 'busy' },
  [GuestState.SHUT_OFF]: { word: 'Shut off', tone: 'calm' },
};

export function guestWord({ guestState, error }: Domain): Word {
  return error === undefined ? GUESTS[guestState] : { word: 'QEMU does not answer', tone: 'bad' };
}

export function domainsView({ domains, domainsAsOf, jobs }: Live): Child[] {
  return [
    heading(
      'Virtual machines',
      h(
        'p',
        { class: 'summary' },
        domains.length === 1 ? '1 found' : `${domains.length} found`,
        ' · ',
        asOf(domainsAsOf),
      ),
    ),
    domains.length === 0
      ? h('p', { class: 'none' }, 'There are none. Is QEMU running, with a monitor of its own for the service?')
      : domainsTable(domains, jobs.running),
  ];
}

export function domainsTable(domains: readonly Domain[], running: readonly Job[]): HTMLElement {
  const rows = domains.map((domain) => {
    const jobs = running.filter(({ disk }) => disk?.domain === domain.name).length;
    return h(
      'tr',
      { 'data-key': `${domain.host}/${domain.name}/${domain.uuid}` },
      h(
        'th',
        { scope: 'row' },
        h('a', { href: domainHref(domain.uuid === '' ? domain.name : domain.uuid) }, h('b', {}, domain.name)),
        domain.uuid !== '' && h('span', { class: 'sub' }, h('code', {}, domain.uuid)),
      ),
      h('td', {}, chip(guestWord(domain)), domain.error && h('p', { class: 'why' }, domain.error.message)),
      h('td', {}, domain.host),
      h('td', {}, domain.qemuVersion === '' ? '–' : domain.qemuVersion),
      h('td', { class: 'number' }, jobs === 0 ? '–' : String(jobs)),
    );
  });
  const heads = ['Name', 'Guest', 'Host', 'QEMU', h('span', { class: 'number' }, 'Jobs')];
  return table('Virtual machines', heads, rows, 'domains');
}
