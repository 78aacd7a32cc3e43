/** The surroundings of the command; a test gives its own. */
export interface Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: NodeJS.WritableStream;
  /** Progress goes here, so that results can be piped. Bars are only for a TTY. */
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  /** Aborted with Interrupted as its reason. */
  readonly signal: AbortSignal;
}

/** Ctrl-C, or a signal like it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** An error in the command line, the environment or the configuration file. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
