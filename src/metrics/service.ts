/** The metrics of every mode: the program, the end of its certificate, and missing lines of its log. */
import type { Meters } from './meters.ts';

export interface ServiceFacts {
  readonly version: string;
  readonly mode: string;
  /** When our certificate ends; undefined if there is none. */
  readonly certificateEnds: () => Date | undefined;
  /** Missing lines of the log, which was not read in time. */
  readonly linesDropped: () => number;
}

export function addService(meters: Meters, { version, mode, certificateEnds, linesDropped }: ServiceFacts): void {
  const build = meters.gauge('build_info', 'The program; always 1.', ['version', 'mode']);
  build.set({ version, mode }, 1);
  const ends = meters.gauge(
    'certificate_expires_timestamp_seconds',
    'When the certificate of this service ends, as Unix time; 0 without one.',
  );
  const dropped = meters.counter(
    'log_lines_dropped_total',
    'Lines missing in the log because it was not read in time.',
  );
  let told = 0;
  meters.beforeEach(() => {
    ends.set((certificateEnds()?.getTime() ?? 0) / 1000);
    const lines = linesDropped();
    dropped.inc(lines - told);
    told = lines;
  });
}
