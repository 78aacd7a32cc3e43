/**
 * make bench: measures the costs of a host's VMs for its agent, beside a program that only connects to their monitors.
 * The VMs are real QEMUs without a machine, each a process. Their number is limited by half of the free memory, and by
 * 1,000. The agent may use 512 MiB. The memory without VMs is measured, too, because that of each VM is the difference.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { PROGRAM } from '../../build/places.ts';
import { eventually, present } from '../support/checks.ts';
import { memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { useOf } from '../support/memory.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';
import { seconds } from './turns.ts';

const AT_MOST = 1000;
/** The memory that a QEMU without a machine does not share. */
const QEMU_BYTES = 14 * 1024 * 1024;
const MAY_HAVE = 512 * 1024 * 1024;
const QUIET_MS = 60_000;
export const BUILT = [process.execPath, join(PROGRAM, 'src/main.js')] as const;

async function affordable(): Promise<number> {
  const available = /^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return Math.min(AT_MOST, Math.floor((Number(available) * 1024) / 2 / QEMU_BYTES));
}

/** Without a machine, unless arguments give one. */
export async function startVms(
  folder: string,
  count: number,
  started: AsyncDisposableStack,
  machineOf: (name: string) => readonly string[] = () => ['-machine', 'none'],
): Promise<void> {
  const atOnce = pLimit(4);
  const names = Array.from({ length: count }, (_, at) => `vm${at}`);
  const one = async (name: string) => {
    const pidFile = join(folder, `${name}.pid`);
    const monitor = `unix:${join(folder, `${name}.sock`)},server=on,wait=off`;
    const args = ['-name', name, ...machineOf(name), '-nodefaults', '-display', 'none', '-qmp', monitor];
    await run('qemu-system-x86_64', [...args, '-daemonize', '-pidfile', pidFile]);
    const pid = Number(await readFile(pidFile, 'utf8'));
    started.defer(() => void process.kill(pid, 'SIGKILL'));
  };
  await Promise.all(names.map(async (name) => await atOnce(one, name)));
}

/** Starts a program that knows all VMs of the folder when this resolves. */
type Start = (folder: string, count: number, held: AsyncDisposableStack) => Promise<{ readonly pid: number }>;

/** By its log first: a list asks every QEMU, and would be measured, too. */
export async function areKnown(service: Service, count: number): Promise<true | undefined> {
  if (service.log.split('QEMU is connected').length - 1 < count) return undefined;
  const known = (await service.listDomains()).filter(({ qemuVersion }) => qemuVersion !== '');
  return known.length === count || undefined;
}

const startAgent: Start = async (folder, count, held) => {
  const state = held.use(await testDir());
  const cgroup = held.use(await memoryCgroup(MAY_HAVE, 'vms'));
  const where = { dir: state.path, qmpDir: folder, allow: [], args: ['--log-level', 'info'] };
  const service = held.use(await Service.start({ ...where, program: BUILT, under: cgroup.under }));
  await eventually(`${count} VMs are known`, async () => await areKnown(service, count), 120_000);
  return service;
};

const startBare: Start = async (folder, _count, held) => {
  const child = fork(join(import.meta.dirname, 'bare-monitors.ts'), [folder]);
  held.defer(async () => {
    const exited = once(child, 'exit');
    child.disconnect();
    await exited;
  });
  await once(child, 'message');
  return { pid: present(child.pid) };
};

interface Cost {
  readonly wallS: number;
  readonly cpuS: number;
  /** A minute later. */
  readonly residentMib: number;
  readonly idleShare: number;
}

async function costOf(start: Start, folder: string, count: number): Promise<Cost> {
  await using held = new AsyncDisposableStack();
  const started: { readonly pid: number }[] = [];
  const wallS = await seconds(async () => started.push(await start(folder, count, held)));
  const program = present(started[0]);
  const { cpuMs } = useOf(program);
  await sleep(QUIET_MS);
  const later = useOf(program);
  const idleShare = (later.cpuMs - cpuMs) / QUIET_MS;
  return { wallS, cpuS: cpuMs / 1000, residentMib: later.residentMib, idleShare };
}

export async function measure(): Promise<readonly Figure[]> {
  await using vms = new AsyncDisposableStack();
  const folder = vms.use(await testDir()).path;
  const programs = [
    { by: 'the agent', start: startAgent },
    { by: 'bare QMP', start: startBare },
  ];
  const without = await Promise.all(programs.map(async ({ start }) => await costOf(start, folder, 0)));
  const count = await affordable();
  await startVms(folder, count, vms);
  const figures: Figure[] = [{ what: 'number of VMs', by: 'both', unit: '', values: [count] }];
  for (const [at, { by, start }] of programs.entries()) {
    const none = present(without[at]).residentMib;
    const { wallS, cpuS, residentMib, idleShare } = await costOf(start, folder, count);
    const each = ((residentMib - none) * 1024) / count;
    const figure = (what: string, unit: string, value: number) => figures.push({ what, by, unit, values: [value] });
    figure('time until all are known', 's', wallS);
    figure('CPU time until then', 's', cpuS);
    figure('memory without VMs', 'MiB', none);
    figure('memory for each, a minute later', 'KiB', each);
    figure('CPU while idle', '% of a core', 100 * idleShare);
  }
  return figures;
}
