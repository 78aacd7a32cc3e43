/** The plan of a pull: QEMU's block-stream, which ends by itself. */

import type { Plan } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import { startJob } from './steps.ts';

/** The image that becomes the backing image, and the name by which the header is to know it. */
export interface PullBase {
  readonly node: string;
  readonly backingFile: string;
}

/** Without a base the whole chain is pulled, and nothing is below the disk then. */
export function planPull(job: string, node: string, base: PullBase | undefined, options: JobOptions): Plan {
  return [
    startJob('start-pull', job, {
      execute: 'block-stream',
      arguments: {
        'job-id': job,
        device: node,
        // QEMU's own idea of the name may be a json:{} text, which nobody else can read.
        ...(base === undefined ? {} : { 'base-node': base.node, 'backing-file': base.backingFile }),
        speed: options.bandwidthBytesPerSecond,
        'on-error': 'report',
        // The last step, which gives the image its new backing file, waits until all that was pulled is on stable storage:
        // QEMU does not flush it, and a crash would lose what the old images had (core/next-move, PENDING).
        'auto-finalize': false,
        // QEMU 7.2 crashes at query-named-block-nodes while a concluded stream is to be dismissed: it must not stay.
        'auto-dismiss': true,
      },
    }),
  ];
}
