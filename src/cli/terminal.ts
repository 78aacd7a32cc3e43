/** What the command is run in; a test gives its own. */
export interface Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: NodeJS.WritableStream;
  /** Progress goes here, so that results can be piped on. Bars are for a TTY. */
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Aborted with Interrupted as its reason. */
  readonly signal: AbortSignal;
}

/** Ctrl-C, or a signal like it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** Something about the command line, the environment or the configuration file. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
