/** What every mode tells: what it is, and until when its certificate is good. */
import type { Meters } from './meters.ts';

export interface ServiceFacts {
  readonly version: string;
  readonly mode: string;
  /** When our certificate ends; undefined: there is none. */
  readonly certificateEnds: () => Date | undefined;
}

export function addService(meters: Meters, { version, mode, certificateEnds }: ServiceFacts): void {
  const build = meters.gauge({ name: 'build_info', help: 'What runs here; always 1.', labels: ['version', 'mode'] });
  build.set({ version, mode }, 1);
  const ends = meters.gauge({
    name: 'certificate_expires_timestamp_seconds',
    help: 'When the certificate of this service ends, as Unix time; 0 without one.',
  });
  meters.beforeEach(() => ends.set((certificateEnds()?.getTime() ?? 0) / 1000));
}
