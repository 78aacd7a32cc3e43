/** The plan of a pull: QEMU's block-stream, which ends by itself. */

import type { Plan } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import { startJob } from './steps.ts';

/** The image that becomes the backing image, and its name in the header. */
export interface PullBase {
  readonly node: string;
  readonly backingFile: string;
}

/** Without a base the whole chain is pulled, and the disk has no backing image afterwards. */
export function planPull(job: string, node: string, base: PullBase | undefined, options: JobOptions): Plan {
  return [
    startJob('start-pull', job, {
      execute: 'block-stream',
      arguments: {
        'job-id': job,
        device: node,
        // QEMU's own name may be a json:{} text, which other programs cannot read.
        ...(base === undefined ? {} : { 'base-node': base.node, 'backing-file': base.backingFile }),
        speed: options.bandwidthBytesPerSecond,
        'on-error': 'report',
        // The last step, which changes the backing file in the header, waits until all pulled data is on stable
        // storage: QEMU does not flush it, and a crash would lose the data of the old images (core/next-move, PENDING).
        'auto-finalize': false,
        // QEMU 7.2 crashes at query-named-block-nodes while a concluded stream is not dismissed: it must not stay.
        'auto-dismiss': true,
      },
    }),
  ];
}
