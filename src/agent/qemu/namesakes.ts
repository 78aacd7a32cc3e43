/** A process that claims to be a VM that is already here, without any proof. */
import type { Logger } from 'pino';
import type { VirtualMachine } from './virtual-machine.ts';

/**
 * Logs it: another process with the same name or UUID can be asked. A guest that migrates within the host is here twice
 * for a while, and so is one that a process only pretends to be. Two monitors of one QEMU count as one.
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
      'audit: another process claims to be a VM of this host; requests by that name are refused until one of them is gone',
    );
  }
}

function isNamesake(one: VirtualMachine, other: VirtualMachine): boolean {
  return one.name === other.name || (one.uuid !== undefined && other.answersTo(one.uuid));
}
