/** One virtual machine: its disks, each with its chain of images, and the copy that grows beside it. */
import type { Disk, Image } from '../../generated/es/blockjob/v1/domain_service_pb.js';
import type { Job } from '../../generated/es/blockjob/v1/job_pb.js';
import { type Child, h } from '../dom.ts';
import type { Live } from '../live.ts';
import { asOf, bar, chip, destinationOf, facts, heading, jobHref, lastKnown, path } from '../parts.ts';
import { bytes, KINDS, percent, stateWord } from '../words.ts';
import { guestWord } from './domains.ts';

export function domainView(name: string, live: Live): Child[] {
  const { domain, domainAsOf } = live;
  const trail = h('p', { class: 'trail' }, h('a', { href: '#/domains' }, 'Virtual machines'), ' / ', name);
  if (domain === undefined) return [trail, heading(name), h('p', { class: 'none' }, 'Asking…')];
  if ('why' in domain) return [trail, heading(name), h('p', { class: 'notice bad' }, domain.why)];
  return [
    trail,
    heading(domain.name, chip(guestWord(domain)), h('p', { class: 'summary' }, asOf(domainAsOf))),
    facts(
      [
        ['Host', domain.host],
        ['QEMU', domain.qemuVersion],
        ['Process', domain.qemuPid === 0 ? '' : String(domain.qemuPid)],
        ['UUID', domain.uuid],
      ],
      'figures',
    ),
    ...domain.disks.map((disk, index) => diskOf(disk, index, live)),
    domain.disks.length === 0 && h('p', { class: 'none' }, 'It has no disk.'),
  ];
}

function diskOf(disk: Disk, index: number, live: Live): HTMLElement {
  const { job } = disk;
  const id = `disk-${index}`;
  return h(
    'section',
    { 'aria-labelledby': id, 'data-key': disk.name, class: 'disk' },
    h('h2', { id }, disk.name),
    h(
      'p',
      { class: 'summary' },
      [disk.deviceModel, bytes(disk.virtualSizeBytes), disk.readOnly ? 'read only' : ''].filter(Boolean).join(' · '),
    ),
    disk.chain.length === 0
      ? h('p', { class: 'none' }, 'It has no medium.')
      : h(
          'div',
          { class: 'graph' },
          h(
            'ol',
            { class: 'chain', 'aria-label': `Images of ${disk.name}, the active one first` },
            ...disk.chain.map(imageOf),
          ),
          job && copyBeside(live.jobs.get(job.id) ?? job, live),
        ),
  );
}

function imageOf(image: Image): HTMLElement {
  const { index, path: where, format, storage, virtualSizeBytes, allocatedBytes, bitmaps } = image;
  const slash = where.lastIndexOf('/') + 1;
  const notes = [
    format,
    storage === 'file' ? '' : storage,
    allocatedBytes === undefined ? '' : `${bytes(allocatedBytes)} on disk`,
    index === 0 ? '' : `shows ${bytes(virtualSizeBytes)}`,
    image.encrypted ? 'encrypted' : '',
    bitmaps.length === 0 ? '' : `bitmaps: ${bitmaps.join(', ')}`,
  ];
  return h(
    'li',
    { class: index === 0 ? 'image live' : 'image', 'data-key': image.nodeName },
    h('span', { class: 'what' }, index === 0 ? 'Active image' : 'Backing image'),
    h('code', { class: 'file' }, where.slice(slash)),
    h('code', { class: 'path' }, where.slice(0, slash)),
    h('span', { class: 'sub' }, notes.filter((note) => note !== '').join(' · ')),
    index === 0 && !image.readOnly && h('span', { class: 'tag' }, 'The guest writes here'),
  );
}

function copyBeside(job: Job, { jobs }: Live): HTMLElement {
  const to = destinationOf(job.destination);
  const base = job.options?.basePath ?? '';
  return h(
    'div',
    { class: 'beside' },
    h(
      'p',
      { class: 'moving' },
      h('a', { href: jobHref(job) }, KINDS[job.kind]),
      ' ',
      chip(stateWord(job.state, job.pauseReason)),
      bar(job),
      jobs.isCurrent(job) ? h('span', {}, percent(job.progress?.percent ?? 0)) : lastKnown(job),
    ),
    to !== '' && h('div', { class: 'image copy' }, h('span', { class: 'what' }, 'Destination'), path(to)),
    to === '' && base !== '' && h('div', { class: 'image copy' }, h('span', { class: 'what' }, 'Into'), path(base)),
  );
}
