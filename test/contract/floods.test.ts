/**
 * A real service that may have 512 MiB, and clients that try to use all of it, each in its own way: the service lives,
 * stays small, and still answers a well-behaved client.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/checks.ts';
import { askUntil } from '../support/hostile/good-client.ts';
import { type MemoryCgroup, memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { needs } from '../support/means.ts';
import { peakBytes } from '../support/memory.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Authority } from '../support/service/certificates.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1024 * 1024;
const MAY_HAVE = 512 * MIB;
const STAYS_BELOW = 256 * MIB;
const SECONDS = 1;
const PROGRAM = join(import.meta.dirname, '../support/hostile/flood.ts');
/** Enough VMs that a list of them takes some bytes. */
const DOMAINS = 40;

/** The result of the flood. */
async function flood(name: string, { address }: Service, tls: readonly string[] = []): Promise<unknown> {
  const port = address.split(':').at(-1) ?? '';
  const child = spawn(process.execPath, [PROGRAM, name, port, String(SECONDS), ...tls], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  expect({ name, status }).toEqual({ name, status: 0 });
  return JSON.parse(said.trim().split('\n').at(-1) ?? '');
}

/** The problems that remain after the trial. */
async function trialOf(one: Service, trial: () => Promise<unknown>, channel = credentials.createInsecure()) {
  const { lost, tookMs } = await askUntil(trial(), one.address, channel);
  const peak = peakBytes(one);
  return { lost, isAlive: one.alive, isSmall: peak < STAYS_BELOW || peak, hasAsked: tookMs.length > 0 };
}

const WELL = { lost: [], isAlive: true, isSmall: true, hasAsked: true };

describe.skipIf(needs('cgroup'))('a flood of', () => {
  const opened = new AsyncDisposableStack();
  let cgroup: MemoryCgroup;
  let service: Service;
  let dir: string;
  beforeAll(async () => {
    cgroup = opened.use(await memoryCgroup(MAY_HAVE));
    dir = opened.use(await testDir()).path;
    service = opened.use(await start('127.0.0.1:0'));
  });
  afterAll(async () => {
    await opened.disposeAsync();
  });

  async function start(listen: string, args: readonly string[] = []): Promise<Service> {
    const { under } = cgroup;
    const qmp = Object.fromEntries(
      Array.from({ length: DOMAINS }, (_, at) => [`vm-${at}-${'x'.repeat(80)}`, join(dir, `none-${at}.sock`)]),
    );
    return await Service.start({ dir, qmp, allow: [], listen, under, args: ['--log-level', 'info', ...args] });
  }

  test('valid calls of a client that wants 400 at a time', async () => {
    let told: unknown;
    const trial = async () => {
      told = await flood('calls', service);
    };
    expect(await trialOf(service, trial)).toEqual(WELL);
    expect(told).toEqual({ OK: expect.any(Number) as number });
  });

  test.each([
    'calls at once',
    'half-open calls',
    'half messages',
    'headers',
    'headers beyond the limit',
    'windows at zero',
    'slow readers',
    'health watches',
    'pings',
    'settings',
    'rapid reset',
    'continuation',
    'gzip bombs',
    'connections',
  ])('%s', async (name) => {
    expect(await trialOf(service, async () => await flood(name, service))).toEqual(WELL);
  });

  test('it has logged them in a few lines', async () => {
    await eventually('it has told', () => service.log.includes('audit: limits reached') || undefined);
    expect(service.log.length).toBeLessThan(100_000);
  });

  test.each(['handshakes', 'half handshakes'])('%s', async (name) => {
    const authority = await Authority.make(dir);
    const pair = await authority.sign('both', { uri: 'spiffe://site/both' });
    const files = [pair.certificateFile, pair.privateKeyFile, authority.caFile];
    const args = ['--tls-cert', '--tls-key', '--tls-ca'].flatMap((option, at) => [option, files[at] ?? '']);
    await service.stop();
    await using secured = await start('127.0.0.1:0', args);
    const [cert, key, ca] = await Promise.all(files.map(async (file) => await readFile(file)));
    const channel = credentials.createSsl(ca, key, cert);
    expect(await trialOf(secured, async () => await flood(name, secured, files), channel)).toEqual(WELL);
  });
});
