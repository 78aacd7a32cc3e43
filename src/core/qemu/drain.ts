/**
 * Waits until all I/O in flight on every disk is written, and does nothing else: QEMU before 8.1 drains all disks
 * before the first action of a transaction, and this one has none. A newer QEMU answers at once, and does not need it.
 *
 * It comes before each `stop`, because a hanging copy must not be cancelled during it: if a copy fails then, QEMU 7.2
 * loses count of the disk's users (decision 81).
 */
import type { QmpCommand } from './commands.ts';

export const DRAIN: QmpCommand = { execute: 'transaction', arguments: { actions: [] } };
