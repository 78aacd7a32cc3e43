/** How to reach the service, and what a call may be told. */
import type { BlockJobError } from './errors.ts';

/** A string is a file's path; bytes are what such a file would hold. PEM. */
export type Pem = string | Buffer;

export interface TlsOptions {
  /** The authorities that the server's certificate is checked by. Absent: those of Node. */
  readonly ca?: Pem | undefined;
  /** Who the client is; with its key. */
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
  /** The name that the server's certificate must bear. Absent: the one that it is reached by. */
  readonly serverName?: string | undefined;
}

/** Told before something is tried again. */
export interface Retry {
  readonly error: BlockJobError;
  /** Where it failed. */
  readonly address: string;
  readonly delayMs: number;
}

export interface Endurance {
  /**
   * For how long the service may be away before that is an error. Not a deadline: a call that waits for its answer on
   * a living connection is not cut off by it. 30 seconds unless told otherwise; Infinity for ever.
   */
  readonly patienceMs?: number | undefined;
  readonly onRetry?: ((retry: Retry) => void) | undefined;
}

export interface ConnectOptions extends Endurance {
  /** HOST:PORT or unix:/PATH. Of several the first is used as long as it answers, and then the next. */
  readonly address: string | readonly string[];
  /** Absent: plaintext. A unix socket is always plaintext. */
  readonly tls?: TlsOptions | undefined;
}

export interface CallOptions extends Endurance {
  /** The deadline, from now on, of all attempts together; 24 days at most. Absent: none. It ends the waiting, never a job. */
  readonly timeoutMs?: number | undefined;
  /** Ends the waiting, never a job; the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}
