/** The exit codes, for scripts: 0 only if everything was done as requested. */
export const EXIT = {
  done: 0,
  /** A bug of this command. */
  bug: 1,
  /** An error in the command line, the environment or the configuration file. */
  usage: 2,
  /** The service refused, and has changed nothing. */
  refused: 3,
  /** The job ended differently than requested; or only some of several requests were done. */
  failed: 4,
  /** It is not known what happened: look before you do anything else. */
  unknown: 5,
  /** --timeout expired, and the job was cancelled. */
  timedOut: 6,
  /** The service, or a host or QEMU behind it, does not answer. */
  unreachable: 7,
  /** Ctrl-C: the command stops watching, and the job continues. */
  interrupted: 130,
  /** The reader of the output has gone; as SIGPIPE ends a process. */
  unread: 141,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The first code of this order counts if several results differ. */
const WORST_FIRST: readonly ExitCode[] = [
  EXIT.bug,
  EXIT.usage,
  EXIT.unknown,
  EXIT.failed,
  EXIT.timedOut,
  EXIT.unreachable,
  EXIT.refused,
  EXIT.interrupted,
  EXIT.unread,
];

export function worstOf(codes: readonly ExitCode[]): ExitCode {
  return WORST_FIRST.find((code) => codes.includes(code)) ?? EXIT.done;
}
