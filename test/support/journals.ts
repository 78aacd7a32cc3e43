/** Where a test has its journals, with a clock as of a service that begins there. */
import { HostClock } from '../../src/agent/host-clock.ts';
import type { Journals } from '../../src/agent/job-log.ts';

export function journalsIn(folder: string, clock = new HostClock()): Journals {
  return { folder, clock };
}
