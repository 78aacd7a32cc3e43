/**
 * make bench: the costs of a host's VMs for its agent. They are the time until all VMs are known, the memory of each VM a
 * minute later, and the processor time while nothing happens. The VMs are real QEMUs without a machine, each a process.
 * Their number is limited by half of the free memory, and by 1,000. The agent may use 512 MiB.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { PROGRAM } from '../../build/places.ts';
import { eventually } from '../support/checks.ts';
import { memoryCgroup } from '../support/hostile/memory-cgroup.ts';
import { type Use, useOf } from '../support/memory.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const AT_MOST = 1000;
/** The memory that a QEMU without a machine does not share. */
const QEMU_BYTES = 14 * 1024 * 1024;
const MAY_HAVE = 512 * 1024 * 1024;
const QUIET_MS = 60_000;
const BUILT = [process.execPath, join(PROGRAM, 'src/main.js')] as const;

async function affordable(): Promise<number> {
  const available = /^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return Math.min(AT_MOST, Math.floor((Number(available) * 1024) / 2 / QEMU_BYTES));
}

async function startVms(folder: string, count: number, started: AsyncDisposableStack): Promise<void> {
  const atOnce = pLimit(4);
  const names = Array.from({ length: count }, (_, at) => `vm${at}`);
  const one = async (name: string) => {
    const pidFile = join(folder, `${name}.pid`);
    const monitor = `unix:${join(folder, `${name}.sock`)},server=on,wait=off`;
    const args = ['-name', name, '-machine', 'none', '-nodefaults', '-display', 'none', '-qmp', monitor];
    await run('qemu-system-x86_64', [...args, '-daemonize', '-pidfile', pidFile]);
    const pid = Number(await readFile(pidFile, 'utf8'));
    started.defer(() => void process.kill(pid, 'SIGKILL'));
  };
  await Promise.all(names.map(async (name) => await atOnce(one, name)));
}

async function known(service: Service): Promise<number> {
  return (await service.listDomains()).filter(({ qemuVersion }) => qemuVersion !== '').length;
}

interface Row extends Use {
  readonly wallMs: number;
  readonly idleShare: number;
}

async function measure(folder: string, count: number): Promise<Row> {
  await using state = await testDir();
  await using cgroup = await memoryCgroup(MAY_HAVE, 'vms');
  const begun = performance.now();
  const where = { dir: state.path, qmpDir: folder, allow: [], args: ['--log-level', 'info'] };
  await using service = await Service.start({ ...where, program: BUILT, under: cgroup.under });
  const isComplete = async () => (await known(service)) === count || undefined;
  await eventually(`${count} VMs are known`, isComplete, 120_000);
  const wallMs = performance.now() - begun;
  const { cpuMs } = useOf(service);
  await sleep(QUIET_MS);
  const later = useOf(service);
  return { wallMs, cpuMs, residentMib: later.residentMib, idleShare: (later.cpuMs - cpuMs) / QUIET_MS };
}

await using vms = new AsyncDisposableStack();
const folder = vms.use(await testDir()).path;
const none = await measure(folder, 0);
const count = await affordable();
await startVms(folder, count, vms);
const all = await measure(folder, count);
const each = Math.round(((all.residentMib - none.residentMib) * 1024) / count);
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
process.stdout.write(
  `\n| VMs | all known after | CPU time | memory after a minute | of that each | CPU while idle |\n`,
);
process.stdout.write('|---|---|---|---|---|---|\n');
for (const [name, row, kib] of [
  ['none', none, ''],
  [String(count), all, `${each} KiB`],
] as const) {
  const cells = [name, seconds(row.wallMs), seconds(row.cpuMs), `${Math.round(row.residentMib)} MiB`, kib];
  process.stdout.write(`| ${cells.join(' | ')} | ${(100 * row.idleShare).toFixed(2)} % of a core |\n`);
}
