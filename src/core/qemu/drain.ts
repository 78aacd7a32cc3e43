/**
 * Waits until all that is under way to any disk is written, and does nothing else: QEMU before 8.1 drains all disks before
 * the first action of a transaction, and here there is none. A newer one answers at once, and does not need it.
 *
 * It comes before each `stop`, as what hangs is not to be broken off in the middle of that. `stop` flushes disk after disk,
 * and when a copy fails meanwhile QEMU 7.2 loses count of its nodes: the copy's filter stays over the disk for ever, all
 * later jobs of the disk are refused ("Need a root block node"), and QEMU aborts when it is to end.
 */
import type { QmpCommand } from './commands.ts';

export const DRAIN: QmpCommand = { execute: 'transaction', arguments: { actions: [] } };
