/**
 * Measures the memory for ended jobs: as a number of bytes, because times and the memory of a process vary on a busy
 * machine.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { Progresses } from '../../../src/agent/job/progresses.ts';
import { encodeLine } from '../../../src/agent/journal/journal.ts';
import { openJobs } from '../../../src/agent/journal/start-up.ts';
import { VirtualMachines } from '../../../src/agent/qemu/virtual-machines.ts';
import type { Accepted } from '../../../src/core/job/journal-entry.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../support/service/journals.ts';
import { ACCEPTED, CONCLUDED, CREATED, ended, jobOf, journalOf, RUNNING } from '../core/stories.ts';

/** A large number, so that the other memory of the process, some hundred kilobytes, is little for each. */
const JOBS = 10_000;
/** One collection may end another that had begun before, and keeps what was in use at its beginning. */
const LOOKS = 5;
const MOST_BYTES = 2160;
const MOST_PROGRESS_BYTES = 420;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** The memory in use when nothing is under way: files that are being closed, for example, hold what was read from them. */
async function heapBytes(): Promise<number> {
  let least = Infinity;
  for (let look = 0; look < LOOKS; look += 1) {
    await setImmediate();
    collect();
    least = Math.min(least, process.memoryUsage().heapUsed);
  }
  return least;
}

/** A disk of two images of its own, in a VM of its own. */
function acceptedAs(at: number): Accepted {
  const folder = `/var/lib/images/vm-${String(at).padStart(5, '0')}`;
  const file = (name: string, inode: number) => ({
    path: `${folder}/${name}`,
    key: `file 65024:${inode}`,
    born: `inode ${inode} of 1795997296415817103`,
    as: 'DISK' as const,
  });
  const path = `${folder}/top.qcow2`;
  return {
    ...ACCEPTED,
    job: `bj${String(at).padStart(16, '0')}`,
    domain: `vm-${at}`,
    source: { ...ACCEPTED.source, path },
    sourceFile: { path, device: '65024', inode: String(at), birthTimeNs: '1795997296415817103' },
    uses: [file('top.qcow2', at), file('base.qcow2', JOBS + at), { path: `${folder}/copy`, as: 'COPY' }],
  };
}

async function writeJournals(folder: string, count: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const writes = Array.from({ length: count }, async (_, at) => {
    const accepted = acceptedAs(at);
    const story = journalOf(accepted, CREATED, RUNNING, CONCLUDED, ended('COMPLETED'));
    const lines = story.map((entry) => {
      const request = { id: `request-${at}`, digest: 'nUNIRmPbgmmfzFNXOBXM5eim5l-b7fb8Uxz16NtnEh8', caller: '' };
      return encodeLine({ ...entry, ...(entry.revision === 1 && { request }) });
    });
    await writeFile(join(folder, `${accepted.job}.jsonl`), lines.join(''));
  });
  await Promise.all(writes);
}

const open = async (folder: string) => {
  const { jobs, saveIndex } = await openJobs(journalsIn(folder), pino({ level: 'silent' }));
  await saveIndex();
  return jobs;
};

async function bytesEach(folder: string): Promise<number> {
  const before = await heapBytes();
  const jobs = await open(folder);
  const bytes = (await heapBytes()) - before;
  expect(jobs).toHaveLength(JOBS);
  return Math.round(bytes / JOBS);
}

it('is little more than two kilobytes each, whether its journal or the index was read', async () => {
  await using one = await testDir();
  await using all = await testDir();
  await writeJournals(join(one.path, 'jobs'), 1);
  await writeJournals(join(all.path, 'jobs'), JOBS);
  // Things that are made once.
  await open(join(one.path, 'jobs'));
  expect(await bytesEach(join(all.path, 'jobs'))).toBeLessThan(MOST_BYTES);
  expect(await bytesEach(join(all.path, 'jobs'))).toBeLessThan(MOST_BYTES);
});

it('is one value of its progress, however often QEMU was asked', async () => {
  const logger = pino({ level: 'silent' });
  const ids = Array.from({ length: JOBS }, (_, at) => `bj${String(at).padStart(16, '0')}`);
  const progresses = new Progresses(new VirtualMachines({ folder: undefined, named: [], logger }), () => undefined);
  const before = await heapBytes();
  const running = { status: 'running', paused: false, ioStatus: 'ok', speedBytesPerSecond: 0 } as const;
  for (let asked = 1; asked <= 20; asked += 1) {
    progresses.take(ids.map((id) => ({ id, ...running, offsetBytes: asked * 1000.5, lengthBytes: 1_000_000 })));
  }
  for (const id of ids) progresses.end(id);
  expect(((await heapBytes()) - before) / JOBS).toBeLessThan(MOST_PROGRESS_BYTES);
  expect(progresses.of({ ...jobOf(), accepted: acceptedAs(7) })?.currentBytes).toBe(20_010);
});
