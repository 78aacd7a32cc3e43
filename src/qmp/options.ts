// The options of a monitor, and of each command.

import { Budget } from './budget.ts';

/** All times from 1 to 2^31-1. */
export interface MonitorOptions {
  /** The unix socket of a monitor in control mode that no other client uses. At most 107 bytes (Linux). */
  readonly path: string;
  /** Default: 2,000. */
  readonly connectTimeoutMs?: number;
  /** Default: 5,000. Only this time-out shows that another client holds the monitor. */
  readonly greetingTimeoutMs?: number;
  /** The socket may not be a monitor, for example one in the same folder: see `isGivenUp`. Default: false. */
  readonly mayBeAnother?: boolean;
  /** Default: 60,000, because a QEMU that drains a slow disk is silent for tens of seconds. */
  readonly commandTimeoutMs?: number;
  /** Default: 16 MiB. A longer message ends the connection. */
  readonly maxMessageBytes?: number;
  /** Shared with other monitors. Default: one of its own. */
  readonly budget?: Budget;
  /** For the log: late or unknown answers that were dropped, listeners that threw. Must not throw. */
  readonly onStray?: (message: string) => void;
}

export interface ExecuteOptions {
  /** From the call on, including the wait for a free slot. Default: `commandTimeoutMs` of the monitor. */
  readonly timeoutMs?: number;
  /** Called right before the command is written: is it still wanted? Later events may be its effects. Must not throw. */
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
