/** Options of the connection and of calls. */
import type { BlockJobError } from './errors.ts';

/** The path of a file, or its contents as bytes. PEM. */
export type Pem = string | Buffer;

export interface TlsOptions {
  /** The authorities that check the server's certificate. Default: those of Node. */
  readonly ca?: Pem | undefined;
  /** The client's certificate, with its key. */
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
  /** The name in the server's certificate. Default: the host of the address. */
  readonly serverName?: string | undefined;
}

/** Called before a call is repeated. */
export interface Retry {
  readonly error: BlockJobError;
  /** The address that failed. */
  readonly address: string;
  readonly delayMs: number;
}

export interface Endurance {
  /**
   * How long the service may be away before that is an error. Not a deadline: it does not end a call that waits for its
   * answer on a working connection. Default: 30 seconds; Infinity for ever.
   */
  readonly patienceMs?: number | undefined;
  readonly onRetry?: ((retry: Retry) => void) | undefined;
}

export interface ConnectOptions extends Endurance {
  /** HOST:PORT or unix:/PATH. The first of several is used as long as it answers, then the next. */
  readonly address: string | readonly string[];
  /** Default: plaintext. A unix socket is always plaintext. */
  readonly tls?: TlsOptions | undefined;
}

export interface CallOptions extends Endurance {
  /** The deadline, from now on, of all attempts; 24 days at most. Default: none. It ends the waiting, never a job. */
  readonly timeoutMs?: number | undefined;
  /** Ends the waiting, never a job; the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}
