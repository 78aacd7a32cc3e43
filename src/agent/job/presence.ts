/** The known state of a job's QEMU at a look. */
import type { Seen } from '../../core/moves/moves.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';

export interface Up {
  readonly is: 'up';
  readonly machine: VirtualMachine;
}

export type Presence =
  | Up
  /** It is not known: its part of the job is left to it. */
  | { readonly is: 'silent' }
  /** It is proved to have ended: nothing is left in it. */
  | { readonly is: 'ended' };

export function presenceSeen({ qemu }: Seen, machine: VirtualMachine | undefined): Presence {
  if (qemu === 'ENDED') return { is: 'ended' };
  return qemu === 'UP' && machine !== undefined ? { is: 'up', machine } : { is: 'silent' };
}
