/** One VM, as the hold of its guest needs it. */
import type { GuestCommand } from '../../core/qemu/commands.ts';
import type { Standstill } from '../qemu/standstill.ts';

export interface Holdable {
  /** Undefined while QEMU cannot be asked; the hold is called when it can. */
  readonly identity: unknown;
  runState(): Promise<string>;
  /** `atTurn` is called when the command is about to be sent, possibly after a wait: is it still wanted? */
  steer(command: GuestCommand, atTurn: () => boolean): Promise<void>;
  onEvent(listener: (event: { readonly event: string }) => void): void;
  readonly standstill: Pick<Standstill, 'begin' | 'end'>;
}
