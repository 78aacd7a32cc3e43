/** What the command ends with, for scripts: 0 only where all was done that was asked for. */
export const EXIT = {
  done: 0,
  /** A bug of this command. */
  bug: 1,
  /** The command line, the environment or the configuration file. */
  usage: 2,
  /** The service said no, and has changed nothing. */
  refused: 3,
  /** The job has ended otherwise than was asked for; or of several things that were, only some are done. */
  failed: 4,
  /** What has happened is not known: look before anything else is done. */
  unknown: 5,
  /** --timeout is over, and the job was cancelled. */
  timedOut: 6,
  /** The service, or a host or QEMU behind it, does not answer. */
  unreachable: 7,
  /** Ctrl-C: nobody watches any more, and the job goes on. */
  interrupted: 130,
  /** Whoever read the output has gone; as SIGPIPE ends a process. */
  unread: 141,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The first one counts where several things have ended differently. */
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
