/** What every mode tells: what it is, until when its certificate is good, and what its log lacks. */
import type { Meters } from './meters.ts';

export interface ServiceFacts {
  readonly version: string;
  readonly mode: string;
  /** When our certificate ends; undefined: there is none. */
  readonly certificateEnds: () => Date | undefined;
  /** Of the log, as nobody read them in time. */
  readonly linesDropped: () => number;
}

export function addService(meters: Meters, { version, mode, certificateEnds, linesDropped }: ServiceFacts): void {
  const build = meters.gauge('build_info', 'What runs here; always 1.', ['version', 'mode']);
  build.set({ version, mode }, 1);
  const ends = meters.gauge(
    'certificate_expires_timestamp_seconds',
    'When the certificate of this service ends, as Unix time; 0 without one.',
  );
  const dropped = meters.counter(
    'log_lines_dropped_total',
    'Lines that are missing in the log, as nobody read them in time.',
  );
  let told = 0;
  meters.beforeEach(() => {
    ends.set((certificateEnds()?.getTime() ?? 0) / 1000);
    const lines = linesDropped();
    dropped.inc(lines - told);
    told = lines;
  });
}
