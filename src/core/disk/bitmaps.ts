/**
 * The persistent dirty bitmaps of the active image, with which backup tools know which blocks have changed: they follow
 * the disk to its new image. One transaction just before the pivot adds bitmaps there and merges the old ones into
 * them. Writes of the guest from then on are recorded when the mirror copies them. So a bitmap may mark more than it
 * must, and never less.
 */

import type { QmpCommand } from '../qemu/commands.ts';
import type { Image } from './chain.ts';

/** Undefined if there is nothing to carry over. May be repeated. */
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
