/** What answers here, for whoever wants to know which program that is. */
export interface ServerInfo {
  readonly version: string;
  /** What it was built from. */
  readonly build: string;
  readonly mode: 'SERVE' | 'AGENT' | 'GATEWAY';
  readonly host: string;
  /** When the process was started. */
  readonly startTime: Date;
}
