/**
 * Waits until all I/O in flight on every disk is written, and does nothing else: QEMU before 8.1 drains all disks
 * before the first action of a transaction, and this one has none. A newer QEMU answers at once, and does not need it.
 *
 * It comes before each `stop`, because a hanging copy must not be cancelled during it. `stop` flushes disk after disk,
 * and if a copy fails meanwhile QEMU 7.2 loses count of its nodes: the copy's filter stays for ever, QEMU refuses all
 * later jobs of the disk ("Need a root block node"), and aborts when it exits.
 */
import type { QmpCommand } from './commands.ts';

export const DRAIN: QmpCommand = { execute: 'transaction', arguments: { actions: [] } };
