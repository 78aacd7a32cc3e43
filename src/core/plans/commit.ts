/** The plan of a commit: one of lower images ends by itself; one of the active image is a mirror down the chain. */

import { namesOf } from '../job/names.ts';
import type { Plan } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import { startJob } from './steps.ts';

export interface CommitNodes {
  /** The node of the active image. */
  readonly active: string;
  /** The highest image that is committed. */
  readonly top: string;
  readonly base: string;
  /** The name of the base in the header of the image above `top`; undefined if `top` is the active image. */
  readonly backingFile: string | undefined;
}

export function planCommit(job: string, nodes: CommitNodes, options: JobOptions): Plan {
  return [
    startJob('start-commit', job, {
      execute: 'block-commit',
      arguments: {
        'job-id': job,
        device: nodes.active,
        'top-node': nodes.top,
        'base-node': nodes.base,
        ...(nodes.backingFile === undefined ? {} : { 'backing-file': nodes.backingFile }),
        speed: options.bandwidthBytesPerSecond,
        'on-error': 'report',
        'filter-node-name': namesOf(job).filter,
        // The last step of a commit of lower images, the header of the image above them, waits until the data is
        // stable: QEMU writes it first (core/next-move, PENDING). For the active image this would freeze the guest's
        // disk.
        'auto-finalize': nodes.backingFile === undefined,
        'auto-dismiss': false,
      },
    }),
  ];
}
