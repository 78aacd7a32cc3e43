/** A peer that calls itself as a VM that is here: its own word is all that it has for that. */
import type { Logger } from 'pino';
import type { VirtualMachine } from './virtual-machine.ts';

/**
 * Tells of it. One that can be asked, with the same name or UUID, and is another process: a guest that migrates within the host is
 * there twice for a while, and so is one that somebody pretends to be. Two monitors of one QEMU are one.
 */
export function tellNamesakes(newcomer: VirtualMachine, all: readonly VirtualMachine[], logger: Logger): void {
  for (const other of all) {
    if (other === newcomer || other.identity === undefined || !isNamesake(newcomer, other)) continue;
    const [process, otherProcess] = [newcomer.lastProcess?.pid, other.lastProcess?.pid];
    if (process !== undefined && process === otherProcess) continue;
    logger.warn(
      {
        domain: other.name,
        uuid: other.uuid,
        qmp: newcomer.socketPath,
        pid: process,
        other: other.socketPath,
        otherPid: otherProcess,
      },
      'audit: another process calls itself as a VM that is here; until one is gone, neither is asked by that name',
    );
  }
}

function isNamesake(one: VirtualMachine, other: VirtualMachine): boolean {
  return one.name === other.name || (one.uuid !== undefined && other.answersTo(one.uuid));
}
