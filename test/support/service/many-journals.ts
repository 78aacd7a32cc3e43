/**
 * A folder of many journals like one that the service itself has written: each of a job of its own, on an image of its
 * own.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeLine } from '../../../src/agent/journal/journal.ts';
import type { JournalEntry } from '../../../src/core/job/journal-entry.ts';

const MINUTE_MS = 60_000;

/** `text`: a journal. The jobs of the folder ended one per minute, the last one as the given journal. */
export async function manyJournals(folder: string, text: string, count: number): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const lines = text.trimEnd().split('\n');
  const first = /"job":"(bj[0-9a-f]{16})"/.exec(text)?.[1] ?? '';
  const source = /"source":\{[^}]*"path":"([^"]*)\//.exec(text)?.[1] ?? '';
  for (let at = 0; at < count; at += 1) {
    const job = first.slice(0, -8) + at.toString(16).padStart(8, '0');
    const images = `/var/lib/images/vm-${String(at).padStart(5, '0')}`;
    const entries = lines.map((line) => {
      const entry = JSON.parse(line.slice(9).replaceAll(first, job).replaceAll(source, images)) as JournalEntry;
      const time = new Date(Date.parse(entry.time) - (count - at) * MINUTE_MS).toISOString();
      const clock = entry.clock && { ...entry.clock, ms: entry.clock.ms + at * MINUTE_MS };
      const request = entry.request && { ...entry.request, id: `${entry.request.id}-${at}` };
      return { ...entry, time, ...(clock && { clock }), ...(request && { request }) };
    });
    await writeFile(join(folder, `${job}.jsonl`), entries.map(encodeLine).join(''), { mode: 0o600 });
  }
}
