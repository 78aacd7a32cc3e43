/** Our certificate, its key, and the authorities that we trust: PEM files. */
export interface TlsFiles {
  readonly certificateFile: string;
  readonly privateKeyFile: string;
  readonly caFile: string;
}
