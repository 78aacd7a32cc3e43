/**
 * A flush of one node that reports its error. QEMU has no such command: `stop` flushes and hides the result. But a
 * reopen flushes the node first (bdrv_reopen_multiple; until 5.2 bdrv_reopen_prepare), and reports an error of that. So
 * QEMU is asked for a reopen that it must refuse right after the flush: the node does not change. A reopen that
 * succeeds would need all options of the node, which QEMU does not report; each missing one goes back to its default.
 * (QEMU 5.2, 7.2, 10.0, 11.1: test/qemu/stable-storage.test.ts.)
 */
import type { QmpCommand } from './commands.ts';

export interface Flush {
  readonly command: Extract<QmpCommand, { execute: 'blockdev-reopen' | 'x-blockdev-reopen' }>;
  /** QEMU's refusal, which comes after the flush. Any other answer means that the flush is not proved. */
  readonly flushed: RegExp;
}

/** The newer one first; QEMU has one of them. */
export function flushesOf(node: string): readonly Flush[] {
  return [
    // Since 6.1.
    {
      command: {
        execute: 'blockdev-reopen',
        arguments: { options: [{ driver: 'null-co', 'node-name': node, 'detect-zeroes': 'unmap', discard: 'ignore' }] },
      },
      flushed: /^setting detect-zeroes to unmap is not allowed without setting discard operation to unmap$/,
    },
    // 4.0 to 6.0. There the refusal above comes before the flush, and these come after it.
    {
      command: { execute: 'x-blockdev-reopen', arguments: { driver: 'null-co', 'node-name': node } },
      flushed: /^(?:Cannot change the option '(?:driver|node-name)'|backing is missing for '.*')$/,
    },
  ];
}
