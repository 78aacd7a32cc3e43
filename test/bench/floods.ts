/**
 * make bench: measures the time of a call of a client that asks now and then, alone, and during each kind of flood from
 * another host; and the largest memory use of the server.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { present } from '../support/checks.ts';
import { askUntil } from '../support/hostile/good-client.ts';
import { type MemoryCgroup, memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { peakBytes } from '../support/memory.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
const MAY_HAVE = 512 * MIB;
const SECONDS = 5;
const DOMAINS = 40;
const PROGRAM = join(import.meta.dirname, '../support/hostile/flood.ts');
const FLOODS = [
  'calls',
  'calls at once',
  'half-open calls',
  'half messages',
  'headers',
  'windows at zero',
  'slow readers',
  'health watches',
  'pings',
  'settings',
  'rapid reset',
  'continuation',
  'gzip bombs',
  'connections',
];

async function flood(name: string, { address }: Service): Promise<void> {
  const port = address.split(':').at(-1) ?? '';
  const child = spawn(process.execPath, [PROGRAM, name, port, String(SECONDS)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  await once(child, 'exit');
}

/** A server for each trial, with little memory at the start. */
async function row(cgroup: MemoryCgroup, name: string, trial: (service: Service) => Promise<void>): Promise<string> {
  await using dir = await testDir();
  const qmp = Object.fromEntries(
    Array.from({ length: DOMAINS }, (_, at) => [`vm-${at}`, join(dir.path, `none-${at}.sock`)]),
  );
  const { under } = cgroup;
  const args = ['--log-level', 'info'];
  await using service = await Service.start({ dir: dir.path, qmp, allow: [], listen: '127.0.0.1:0', under, args });
  const { tookMs, lost } = await askUntil(trial(service), service.address);
  const at = (share: number) => `${present(tookMs[Math.floor(share * (tookMs.length - 1))]).toFixed(1)} ms`;
  return `| ${name} | ${at(0.5)} | ${at(0.99)} | ${tookMs.length} | ${lost.length} | ${Math.round(peakBytes(service) / MIB)} MiB |\n`;
}

await using cgroup = await memoryCgroup(MAY_HAVE);
process.stdout.write(`\nA client's call beside a flood of ${SECONDS} s, with 512 MiB for the server:\n\n`);
process.stdout.write('| beside | median | 99 % | calls | lost | the most memory |\n|---|---|---|---|---|---|\n');
process.stdout.write(await row(cgroup, 'nothing', async () => await sleep(SECONDS * 1000)));
for (const name of FLOODS) process.stdout.write(await row(cgroup, name, async (service) => await flood(name, service)));
