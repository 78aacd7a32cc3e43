/** The step before a copy that compares the reused part of its destination with the contents that it must have. */
import { nbdUri } from '../destination.ts';
import { namesOf } from '../job/names.ts';
import { VERIFY_STEP } from '../job/reuse.ts';
import type { Step } from '../job/step.ts';
import type { JobOptions } from '../job-options.ts';
import type { CopyDestination, CopySource } from './copy-ends.ts';

export function compareFirst(
  job: string,
  { virtualSizeBytes }: CopySource,
  { storage, verify: backing }: CopyDestination,
  { bandwidthBytesPerSecond }: JobOptions,
): readonly Step[] {
  if (backing === undefined) return [];
  const path = storage.driver === 'nbd' ? nbdUri(storage) : storage.filename;
  const destination = { node: namesOf(job).node, path, bytes: virtualSizeBytes };
  const comparison = { job, destination, backing, bandwidthBytesPerSecond };
  return [{ name: VERIFY_STEP, run: { do: 'compare', comparison }, undo: { do: 'end-comparison', job } }];
}
