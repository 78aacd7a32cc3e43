// What a monitor is told when it is made, and with each command.

import { Budget } from './budget.ts';

/** All times from 1 to 2^31-1. */
export interface MonitorOptions {
  /** The unix socket of a monitor in control mode that no other client uses. At most 107 bytes (Linux). */
  readonly path: string;
  /** 2,000 unless told. */
  readonly connectTimeoutMs?: number;
  /** 5,000 unless told: the only way to see that another client holds the monitor. */
  readonly greetingTimeoutMs?: number;
  /** The socket may be no monitor, as one that lies in the same folder: see `isGivenUp`. Not unless told. */
  readonly mayBeAnother?: boolean;
  /** 60,000 unless told: a QEMU that drains a slow disk is silent for tens of seconds. */
  readonly commandTimeoutMs?: number;
  /** 16 MiB unless told. A longer message ends the connection. */
  readonly maxMessageBytes?: number;
  /** Shared with other monitors. One of its own unless told. */
  readonly budget?: Budget;
  /** For the log: late or unknown answers that were dropped, listeners that threw. Must not throw. */
  readonly onStray?: (message: string) => void;
}

export interface ExecuteOptions {
  /** From the call on, the wait for a free slot included. `commandTimeoutMs` of the monitor unless told. */
  readonly timeoutMs?: number;
  /**
   * Asked right before the command is written, for which it may have waited long: is it wanted still? What is heard from
   * then on it may have caused. Must not throw.
   */
  readonly atTurn?: () => boolean;
}

export function withDefaults(options: MonitorOptions): Required<MonitorOptions> {
  return {
    path: options.path,
    connectTimeoutMs: options.connectTimeoutMs ?? 2_000,
    greetingTimeoutMs: options.greetingTimeoutMs ?? 5_000,
    mayBeAnother: options.mayBeAnother ?? false,
    commandTimeoutMs: options.commandTimeoutMs ?? 60_000,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 1024 * 1024,
    budget: options.budget ?? new Budget(),
    onStray: options.onStray ?? (() => {}),
  };
}
