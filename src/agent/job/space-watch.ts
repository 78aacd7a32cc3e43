/**
 * Looks at the destinations of all running copies: at each file system once, however many copies go there. It only
 * writes down what it finds (core/moves/space-rows); the jobs are paused and resumed by their table.
 */
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import type { Job } from '../../core/job/job.ts';
import { isInQemu } from '../../core/job/job-facts.ts';
import { namesOf } from '../../core/job/names.ts';
import { RESERVE_BYTES } from '../../core/job/space.ts';
import { spaceNews } from '../../core/moves/space-rows.ts';
import { readHighestWrite } from '../../core/qemu/block-replies.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';
import { lookAt } from '../files/place.ts';
import { allocatedBytes, freeBytes } from '../files/room.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

export interface SpaceWatchOptions {
  readonly active: () => readonly JobLog[];
  readonly machines: Pick<VirtualMachines, 'of'>;
  readonly logger: Logger;
}

interface Room {
  /** Undefined if it cannot be known. */
  readonly freeBytes: number | undefined;
  readonly allocatedBytes: number;
}

const NOT_KNOWN: Room = { freeBytes: undefined, allocatedBytes: 0 };

export class SpaceWatch {
  readonly #options: SpaceWatchOptions;
  /** The free bytes at the last look, by the place. */
  readonly #free = new Map<string, number>();
  /** Places that do not answer: each keeps only one look waiting. */
  readonly #looking = new Set<string>();
  /** Since when a job is paused for space, as far as this service knows. */
  readonly #waits = new WeakMap<JobLog, { readonly retries: number; readonly sinceMs: number }>();
  /** The write thresholds in QEMU. */
  readonly #thresholds = new WeakMap<JobLog, string>();
  readonly #heard = new WeakSet<VirtualMachine>();

  constructor(options: SpaceWatchOptions) {
    this.#options = options;
  }

  look(): void {
    const places = Map.groupBy(this.#copies, ({ job }) => placeOf(job));
    for (const place of this.#free.keys()) if (!places.has(place)) this.#free.delete(place);
    for (const [place, logs] of places) this.#lookAt(place, logs);
  }

  /** The least free bytes of all file systems with a running copy. Undefined if there is none. */
  get leastFreeBytes(): number | undefined {
    return this.#free.size === 0 ? undefined : Math.min(...this.#free.values());
  }

  /** QEMU writes near the end of a device: a look in time, before it finds no space. */
  hear(machine: VirtualMachine): void {
    if (this.#heard.has(machine)) return;
    this.#heard.add(machine);
    machine.onEvent(({ event, data }: QmpEvent) => {
      if (event !== 'BLOCK_WRITE_THRESHOLD') return;
      const log = this.#copies.find(({ job: { accepted } }) => namesOf(accepted.job).file === data['node-name']);
      if (log === undefined) return;
      this.#thresholds.delete(log);
      this.#lookAt(placeOf(log.job), [log]);
    });
  }

  get #copies(): readonly JobLog[] {
    return this.#options.active().filter(({ job }) => isCopying(job));
  }

  #lookAt(place: string, logs: readonly JobLog[]): void {
    if (this.#looking.has(place)) return;
    this.#looking.add(place);
    const { logger } = this.#options;
    void this.#tellAll(place, logs)
      .catch((error: unknown) => logger.debug({ err: error, place }, 'The space at a destination is not known'))
      .finally(() => this.#looking.delete(place));
  }

  async #tellAll(place: string, logs: readonly JobLog[]): Promise<void> {
    const before = this.#free.get(place);
    const free = await freeAt(logs);
    if (free !== undefined) this.#free.set(place, free);
    const takenBytes = free === undefined || before === undefined ? 0 : Math.max(0, before - free);
    await Promise.all(logs.map(async (log) => await this.#tell(log, await this.#roomOf(log, free), takenBytes)));
  }

  async #roomOf(log: JobLog, free: number | undefined): Promise<Room | undefined> {
    const { accepted, destinationFile: file } = log.job;
    if (file === undefined) {
      const { destination } = accepted;
      const isHeader = destination?.format === 'QCOW2' && destination.target?.kind === 'block-device';
      return isHeader ? await this.#onDevice(log, destination.path) : NOT_KNOWN;
    }
    const allocated = await allocatedBytes(file).catch(() => undefined);
    // It has moved, or another file has its name: nothing follows from that one.
    return allocated === undefined ? undefined : { freeBytes: free, allocatedBytes: allocated };
  }

  /** An image in a device grows towards its end; the device may be enlarged meanwhile. */
  async #onDevice(log: JobLog, path: string): Promise<Room | undefined> {
    const machine = this.#options.machines.of(log.job.accepted);
    if (machine?.identity === undefined) return undefined;
    const { sizeBytes } = await lookAt(path);
    const node = namesOf(log.job.accepted.job).file;
    await this.#setThreshold(log, machine, Math.max(1, sizeBytes - RESERVE_BYTES));
    const stats = await machine.execute({ execute: 'query-blockstats', arguments: { 'query-nodes': true } });
    const highest = readHighestWrite(stats, node);
    if (highest === undefined) return NOT_KNOWN;
    // Also a write that found no space counts.
    return { freeBytes: Math.max(0, sizeBytes - highest), allocatedBytes: Math.min(highest, sizeBytes) };
  }

  async #setThreshold(log: JobLog, machine: VirtualMachine, bytes: number): Promise<void> {
    const is = `${machine.identity?.generation} ${bytes}`;
    if (this.#thresholds.get(log) === is) return;
    this.#thresholds.set(log, is);
    await machine.execute({
      execute: 'block-set-write-threshold',
      arguments: { 'node-name': namesOf(log.job.accepted.job).file, 'write-threshold': bytes },
    });
  }

  async #tell(log: JobLog, room: Room | undefined, takenBytes: number): Promise<void> {
    if (room === undefined) return;
    const { job } = log;
    const entry = spaceNews(job, { ...room, takenBytes, waitedMs: this.#waitedMs(log) });
    if (entry === undefined) return;
    const still = ({ revision }: Job) => revision === job.revision;
    await log.offer(entry, { still, otherwise: () => undefined });
  }

  #waitedMs(log: JobLog): number {
    const { pauseReason, spaceRetries: retries } = log.job;
    const known = this.#waits.get(log);
    if (pauseReason === 'NO_SPACE' && known?.retries === retries) return performance.now() - known.sinceMs;
    if (pauseReason === 'NO_SPACE') this.#waits.set(log, { retries, sinceMs: performance.now() });
    else this.#waits.delete(log);
    return 0;
  }
}

/** By the first of these files whose folder is still there. Undefined for a device or an export. */
async function freeAt(logs: readonly JobLog[]): Promise<number | undefined> {
  for (const { job } of logs) {
    const file = job.destinationFile;
    const free = file && (await freeBytes(dirname(file.path)).catch(() => undefined));
    if (free !== undefined) return free;
  }
  return undefined;
}

/** Copies in QEMU: a start is not paused, and a job that has concluded writes nothing. */
function isCopying(job: Job): boolean {
  return job.accepted.kind === 'COPY' && isInQemu(job);
}

/** Its file system, or the device or export itself. */
function placeOf({ accepted, destinationFile }: Job): string {
  return destinationFile === undefined ? (accepted.destination?.path ?? '') : `file system ${destinationFile.device}`;
}
