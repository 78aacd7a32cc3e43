/** The plan of a commit: of lower images it ends by itself; of the active one it is a mirror down the chain. */

import { namesOf } from '../job/names.ts';
import type { Plan } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import { startJob } from './steps.ts';

export interface CommitNodes {
  /** The active image's node, which the device is on. */
  readonly active: string;
  /** The highest image that is committed. */
  readonly top: string;
  readonly base: string;
  /** By which name the image above `top` is to know the base; undefined for the active image: none is above it. */
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
        // Of lower images the last step is the header of the one above them. It waits until the data is on stable storage: QEMU
        // writes that header first (core/next-move, PENDING). Of the active one it would freeze the guest's disk.
        'auto-finalize': nodes.backingFile === undefined,
        'auto-dismiss': false,
      },
    }),
  ];
}
