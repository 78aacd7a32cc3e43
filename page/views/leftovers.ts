/** Objects that jobs made and could not remove. */
import { Leftover_Kind } from '../../generated/es/blockjob/v1/block_job_service_pb.js';
import { type Child, h } from '../dom.ts';
import type { Live } from '../live.ts';
import { asOf, heading, path, table, when } from '../parts.ts';
import { bytes } from '../words.ts';

const KINDS: Readonly<Record<Leftover_Kind, string>> = {
  [Leftover_Kind.UNSPECIFIED]: '',
  [Leftover_Kind.FILE]: 'File',
  [Leftover_Kind.NODE]: 'Block node',
  [Leftover_Kind.QEMU_JOB]: 'QEMU job',
  [Leftover_Kind.THROTTLE]: 'Limit on a guest',
};

export function leftoversView({ leftovers, leftoversAsOf }: Live): Child[] {
  const rows = leftovers.map((one) =>
    h(
      'tr',
      { 'data-key': one.id },
      h('th', { scope: 'row' }, path(one.name), h('span', { class: 'sub' }, KINDS[one.kind], ' of ', one.domain)),
      h('td', {}, one.text),
      h('td', {}, one.blockedBy === '' ? 'Yes, with Reclaim' : one.blockedBy),
      h('td', { class: 'number' }, one.kind === Leftover_Kind.FILE ? bytes(one.allocatedBytes) : '–'),
      h('td', { class: 'nowrap' }, when(one.createTime)),
      h('td', {}, h('a', { href: `#/jobs/${encodeURIComponent(one.jobId)}` }, h('code', {}, one.jobId))),
    ),
  );
  const heads = ['What', 'Why it is there', 'Removable?', h('span', { class: 'number' }, 'Size'), 'Made', 'Job'];
  return [
    heading(
      'Leftovers',
      h('p', { class: 'summary' }, 'Objects that jobs made and could not remove', ' · ', asOf(leftoversAsOf)),
    ),
    rows.length === 0
      ? h('p', { class: 'none' }, 'There are no leftovers.')
      : table('Leftovers', heads, rows, 'leftovers'),
  ];
}
