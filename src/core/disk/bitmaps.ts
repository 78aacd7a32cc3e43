/**
 * The persistent dirty bitmaps of the active image, by which backup tools know what has changed: they follow the
 * disk to its new image. Added there and merged into in one transaction just before the pivot, the new ones hold all
 * that the old ones do; what the guest writes from then on they record as the mirror brings it over. So a bitmap may
 * mark more than it must, and never less.
 */

import type { QmpCommand } from '../qemu/commands.ts';
import type { Image } from './chain.ts';

/** Undefined: there is nothing to be carried over. May be repeated. */
export function carryBitmaps(from: Image, to: Image): Extract<QmpCommand, { execute: 'transaction' }> | undefined {
  const there = new Set(to.bitmaps.map(({ name }) => name));
  const carried = from.bitmaps.filter(({ persistent, inconsistent }) => persistent && !inconsistent);
  const actions = carried.flatMap(({ name, granularityBytes, recording }) => {
    const add = {
      type: 'block-dirty-bitmap-add',
      data: { node: to.node, name, granularity: granularityBytes, persistent: true, disabled: !recording },
    } as const;
    const merge = {
      type: 'block-dirty-bitmap-merge',
      data: { node: to.node, target: name, bitmaps: [{ node: from.node, name }] },
    } as const;
    return there.has(name) ? [merge] : [add, merge];
  });
  return actions.length === 0 ? undefined : { execute: 'transaction', arguments: { actions } };
}
