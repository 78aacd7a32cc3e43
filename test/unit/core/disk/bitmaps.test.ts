/** The bitmaps that follow a disk, and how. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { carryBitmaps } from '../../../../src/core/disk/bitmaps.ts';
import type { Image } from '../../../../src/core/disk/chain.ts';
import type { QemuBitmap } from '../../../../src/core/qemu/block-replies.ts';
import { anImage } from '../../../support/images/image.ts';

const BITMAP: QemuBitmap = {
  name: 'daily',
  granularityBytes: 65_536,
  recording: true,
  persistent: true,
  inconsistent: false,
};

function image(node: string, ...bitmaps: readonly QemuBitmap[]): Image {
  return anImage({ node, path: `/${node}`, bitmaps });
}

const merge = (name: string) => ({
  type: 'block-dirty-bitmap-merge',
  data: { node: 'to', target: name, bitmaps: [{ node: 'from', name }] },
});

describe('bitmaps', () => {
  it('are added as they were, and merged into, each before the next', () => {
    const frozen = { ...BITMAP, name: 'frozen', granularityBytes: 4096, recording: false };
    expect(carryBitmaps(image('from', BITMAP, frozen), image('to'))?.arguments.actions).toEqual([
      {
        type: 'block-dirty-bitmap-add',
        data: { node: 'to', name: 'daily', granularity: 65_536, persistent: true, disabled: false },
      },
      merge('daily'),
      {
        type: 'block-dirty-bitmap-add',
        data: { node: 'to', name: 'frozen', granularity: 4096, persistent: true, disabled: true },
      },
      merge('frozen'),
    ]);
  });

  it('that are there already, as after a lost answer, are only merged into', () => {
    expect(carryBitmaps(image('from', BITMAP), image('to', BITMAP))?.arguments.actions).toEqual([merge('daily')]);
  });

  it('that no image keeps, or that cannot be used, stay behind', () => {
    const useless = [
      { ...BITMAP, persistent: false },
      { ...BITMAP, inconsistent: true },
    ];
    expect(carryBitmaps(image('from', ...useless), image('to'))).toBeUndefined();
    expect(carryBitmaps(image('from'), image('to', BITMAP))).toBeUndefined();
  });
});
