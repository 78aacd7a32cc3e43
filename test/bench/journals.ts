/**
 * make bench: measures the time of a service to its first answer, and its memory, with 10,000 ended jobs. The journals
 * are copies of one that the service has written, of a copy with pivot. In turns with an empty folder, in one run. The
 * service is the published one, so Node compiles no TypeScript.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PROGRAM } from '../../build/places.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { type Use, useOf } from '../support/memory.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { manyJournals } from '../support/service/many-journals.ts';
import { Service } from '../support/service/service.ts';

const JOURNALS = 10_000;
const ROUNDS = 5;
const KEPT = ['--keep-jobs', String(2 * JOURNALS)];
const BUILT = [process.execPath, join(PROGRAM, 'src/main.js')] as const;

interface Start extends Use {
  readonly wallMs: number;
}

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

/** The time from the start to the answer to a question about a job. */
async function start(dir: string): Promise<Start> {
  const begun = performance.now();
  await using service = await Service.start({ dir, qmpDir: dir, allow: [], args: KEPT, program: BUILT });
  await service.listJobs({ pageSize: 1 });
  const wallMs = performance.now() - begun;
  return { wallMs, ...useOf(service) };
}

function median(samples: readonly number[]): number {
  return present(samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)]);
}

await using full = await testDir();
await using empty = await testDir();
const state = join(full.path, 'state');
await manyJournals(join(state, 'jobs'), await oneJournal(), JOURNALS);
const cases: Readonly<Record<string, () => Promise<Start>>> = {
  'no journal': async () => await start(empty.path),
  [`${JOURNALS} journals, each read`]: async () => {
    await rm(join(state, 'ended-jobs'), { force: true });
    return await start(full.path);
  },
  [`${JOURNALS} journals, at the next start`]: async () => await start(full.path),
};
const measured = new Map<string, Start[]>(Object.keys(cases).map((name) => [name, []]));
for (let round = 0; round < ROUNDS; round += 1) {
  for (const [name, once] of Object.entries(cases)) present(measured.get(name)).push(await once());
}
process.stdout.write(`\nFrom nothing to the first answer, ${ROUNDS} rounds, medians:\n\n`);
process.stdout.write('| in the state folder | time | CPU time | memory |\n|---|---|---|---|\n');
for (const [name, starts] of measured) {
  const seconds = (of: (one: Start) => number) => `${(median(starts.map(of)) / 1000).toFixed(2)} s`;
  const mib = Math.round(median(starts.map((one) => one.residentMib)));
  process.stdout.write(`| ${name} | ${seconds((one) => one.wallMs)} | ${seconds((one) => one.cpuMs)} | ${mib} MiB |\n`);
}
