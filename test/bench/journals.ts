/**
 * make bench: measures the time of a service to its first answer, and its memory, with 10,000 ended jobs. The journals
 * are copies of one that the service has written, of a copy with pivot. The peer has an empty folder. The service is the
 * published one, so Node compiles no TypeScript.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PROGRAM } from '../../build/places.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { useOf } from '../support/memory.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { manyJournals } from '../support/service/many-journals.ts';
import { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';
import { inTurns, rounds } from './turns.ts';

const JOURNALS = 10_000;
const ROUNDS = 5;
const KEPT = ['--keep-jobs', String(2 * JOURNALS)];
const BUILT = [process.execPath, join(PROGRAM, 'src/main.js')] as const;

/** The journal of a copy with pivot, as the service writes it. */
async function oneJournal(): Promise<string> {
  await using site = await Site.open();
  await using machine = await site.machine();
  const destination = { target: { $case: 'file', value: join(machine.dir, 'copy') } } as const;
  const request = { disk: machine.disk, destination, onReady: OnReady.ON_READY_PIVOT, requestId: 'move' };
  await site.ended(await site.service.startCopy(request));
  const folder = join(site.stateFolder, 'jobs');
  return await readFile(join(folder, present((await readdir(folder))[0])), 'utf8');
}

/** The time from the start to the answer to a question about a job, the CPU time, and the memory. */
async function start(dir: string): Promise<readonly number[]> {
  const begun = performance.now();
  await using service = await Service.start({ dir, qmpDir: dir, allow: [], args: KEPT, program: BUILT });
  await service.listJobs({ pageSize: 1 });
  const wallMs = performance.now() - begun;
  const { cpuMs, residentMib } = useOf(service);
  return [wallMs / 1000, cpuMs / 1000, residentMib];
}

export async function measure(): Promise<readonly Figure[]> {
  await using full = await testDir();
  await using empty = await testDir();
  const state = join(full.path, 'state');
  await manyJournals(join(state, 'jobs'), await oneJournal(), JOURNALS);
  const measured = [
    { what: 'time', unit: 's' },
    { what: 'CPU time', unit: 's' },
    { what: 'memory', unit: 'MiB' },
  ];
  const count = JOURNALS.toLocaleString('en');
  const readAgain = async () => {
    await rm(join(state, 'ended-jobs'), { force: true });
    return await start(full.path);
  };
  const contenders = [
    { by: 'no journal', once: async () => await start(empty.path) },
    { by: `${count} journals, each read`, once: readAgain },
    { by: `${count} journals, at a later start`, once: async () => await start(full.path) },
  ];
  return await inTurns(measured, contenders, rounds(ROUNDS));
}
