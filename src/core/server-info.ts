/** The program that answers a call. */
export interface ServerInfo {
  readonly version: string;
  /** The commit that it was built from. */
  readonly build: string;
  readonly mode: 'SERVE' | 'AGENT' | 'GATEWAY';
  readonly host: string;
  /** When the process started. */
  readonly startTime: Date;
}
