/**
 * make bench: measures the time of a call of a client that asks now and then, alone, and during each kind of flood from
 * another host; and the largest memory use of the server. A value is of a call, or of a flood.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { askUntil } from '../support/hostile/good-client.ts';
import { type MemoryCgroup, memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { peakBytes } from '../support/memory.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';

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

interface Trial {
  readonly tookMs: readonly number[];
  readonly lost: number;
  readonly peakMib: number;
}

/** A server for each trial, with little memory at the start. */
async function during(cgroup: MemoryCgroup, trial: (service: Service) => Promise<unknown>): Promise<Trial> {
  await using dir = await testDir();
  const qmp = Object.fromEntries(
    Array.from({ length: DOMAINS }, (_, at) => [`vm-${at}`, join(dir.path, `none-${at}.sock`)]),
  );
  const { under } = cgroup;
  const args = ['--log-level', 'info'];
  await using service = await Service.start({ dir: dir.path, qmp, allow: [], listen: '127.0.0.1:0', under, args });
  const { tookMs, lost } = await askUntil(trial(service), service.address);
  return { tookMs, lost: lost.length, peakMib: peakBytes(service) / MIB };
}

export async function measure(): Promise<readonly Figure[]> {
  await using cgroup = await memoryCgroup(MAY_HAVE);
  const alone = await during(cgroup, async () => await sleep(SECONDS * 1000));
  const trials = new Map([['nothing', alone]]);
  for (const name of FLOODS) trials.set(name, await during(cgroup, async (service) => await flood(name, service)));
  const all = [...trials.values()];
  return [
    ...[...trials].map(([by, { tookMs }]) => ({ what: 'a call', by, unit: 'ms', values: tookMs })),
    { what: 'lost calls', by: 'any of these', unit: 'calls', values: all.map(({ lost }) => lost) },
    {
      what: 'peak memory of the server',
      by: 'any of these',
      unit: 'MiB',
      values: all.map(({ peakMib }) => peakMib),
    },
  ];
}
