/** The unit of dirty tracking for a copy, chosen by the writes of its guest. */
import type { ChosenGranularity } from '../job/policy-step.ts';

/** The smallest unit that is of use: a guest does not write less. */
const FINEST_BYTES = 4096;
/** A larger one gains little over QEMU's own choice, which is at most 64 KiB. */
const COARSEST_BYTES = 16_384;
/** A guest with larger writes than this dirties about what it writes, with any unit. */
const SMALL_WRITE_BYTES = 32_768;
/** Fewer writes say little. */
const ENOUGH_WRITES = 256;

/** `written`: since QEMU began. Undefined: QEMU's own choice fits as well. */
export function granularityFor(written: {
  readonly operations: number;
  readonly bytes: number;
}): ChosenGranularity | undefined {
  if (written.operations < ENOUGH_WRITES) return undefined;
  const writeBytes = Math.round(written.bytes / written.operations);
  if (writeBytes >= SMALL_WRITE_BYTES) return undefined;
  const above = 2 ** Math.ceil(Math.log2(Math.max(1, writeBytes)));
  const granularityBytes = Math.min(COARSEST_BYTES, Math.max(FINEST_BYTES, above));
  return { granularityBytes, writeBytes, writes: written.operations };
}
