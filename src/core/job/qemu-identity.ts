/** The signs by which a QEMU is recognised later, also by another service. */

/**
 * The identity of a QEMU process. A name may be given to another process. A pid with its start time is unique as long
 * as the host runs, within its namespace.
 */
export interface QemuProcess {
  readonly pid: number;
  /** Clock ticks since boot, /proc/PID/stat field 22. */
  readonly startTime: string;
  /** The host's boot; undefined if /proc does not show it, and in journals older than this field. */
  readonly bootId?: string;
  /** The namespace of the pid, as `pid:[4026531836]`; undefined as above. */
  readonly pidNamespace?: string;
}

/** The identity of a QEMU as its monitor shows it, to a service that may not see its process. */
export interface QemuMonitor {
  /** The file of its socket, with its birth time: QEMU makes a new one at each start. */
  readonly socket: string;
  /** The thread of its first CPU, as QEMU numbers it. */
  readonly cpuThread: number;
}
