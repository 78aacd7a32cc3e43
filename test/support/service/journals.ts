/** The folder of a test's journals, with a clock as of a service that begins there. */
import { HostClock } from '../../../src/agent/host/host-clock.ts';
import type { Journals } from '../../../src/agent/journal/job-log.ts';
import { type FoundJournal, readJournals } from '../../../src/agent/journal/journal-folder.ts';

export function journalsIn(folder: string, clock = new HostClock()): Journals {
  return { folder, clock };
}

export async function allJournals(folder: string): Promise<readonly FoundJournal[]> {
  const all: FoundJournal[] = [];
  for await (const one of readJournals(folder)) all.push(one);
  return all;
}
