import type { ProcessFacts } from './qemu-process.ts';

/** Who a QEMU said it is, over the present connection. */
export interface Identity {
  readonly name: string | undefined;
  readonly uuid: string | undefined;
  readonly qemuVersion: string;
  /** Undefined where /proc does not tell which process has the socket. */
  readonly facts: ProcessFacts | undefined;
  /** The connection's number; a new one may be another QEMU. */
  readonly generation: number;
}
