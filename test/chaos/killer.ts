/**
 * The service, and its deaths: SIGKILL at any moment, and then a new service with the same journals, which may see less
 * of QEMU than the earlier one. If few services have died in a phase, one is killed there on purpose.
 */
import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { complaints } from '../support/checks.ts';
import type { Random } from '../support/random.ts';
import { run } from '../support/real-qemu/qemu.ts';
import type { Sight } from '../support/real-qemu/sights.ts';
import { type Refusal, refusalOf } from '../support/service/caller.ts';
import { Service, type ServiceOptions } from '../support/service/service.ts';
import type { Waits } from './waits.ts';
import { type Verdict, WrongOutcome } from './wrong.ts';

/** The state of a disk's job when the service was killed, as far as a caller could see. */
export const PHASES = ['STARTING', 'RUNNING', 'READY', 'ENDING', 'ENDED'] as const;
export type Phase = (typeof PHASES)[number];

/** The time that a service needs to start on a quiet machine. */
const QUIET_START_MS = 400;

const OWN_UID = process.getuid?.() ?? 0;
const LOGS = 4;
const LOG_LINES = 60;

export interface KillerParts {
  readonly random: Random;
  readonly verdict: Verdict;
  readonly waits: Waits;
  readonly domain: string;
  /** Its sockets, and its disks. */
  readonly vmFolder: string;
  readonly service: ServiceOptions;
  /** Ways to see less; if empty, each service sees everything. */
  readonly sights: readonly Sight[];
}

export class Killer implements AsyncDisposable {
  /** The kills in each phase, by what the next service saw. */
  readonly phases: Map<Phase, number> = new Map(PHASES.map((phase) => [phase, 0]));
  readonly sights = new Map<string, number>();
  readonly #parts: KillerParts;
  readonly #now = new Map<number, Phase>();
  readonly #killing = new AbortController();
  /** The last output of each service before it died. */
  readonly #said: string[] = [];
  #kills = 0;
  /**
   * The slowness of this machine compared with a quiet one: otherwise a service that lives for moments would never get
   * anywhere.
   */
  #slowness = 1;
  #lastMs = 0;
  #service: Service;
  #ended: () => void;
  /** The owner of the files: a service does not take the state folder of another user. */
  #uid = OWN_UID;
  #dying: Promise<void> | undefined;
  #calm = 0;
  #goesOn: Promise<void> = Promise.resolve();

  private constructor(parts: KillerParts, service: Service) {
    this.#parts = parts;
    this.#service = service;
    this.#ended = parts.waits.lives.open();
  }

  static async start(parts: KillerParts): Promise<Killer> {
    const service = await Service.start(parts.service);
    await service.domainUp(parts.domain);
    return new Killer(parts, service);
  }

  get kills(): number {
    return this.#kills;
  }

  /** When the last service died. */
  get lastMs(): number {
    return this.#lastMs;
  }

  get service(): Service {
    return this.#service;
  }

  /** The end of what each of the last services has logged. */
  get log(): string {
    return [...this.#said, this.#service.log]
      .map((log) => log.split('\n').slice(-LOG_LINES).join('\n'))
      .join('\n---\n');
  }

  /** Kills now and then, until it is told to stop. */
  begin(): void {
    this.#goesOn = this.#goOn();
  }

  async end(): Promise<void> {
    this.#killing.abort();
    await this.#goesOn;
    await this.#dying;
  }

  async #goOn(): Promise<void> {
    const { random, domain, verdict } = this.#parts;
    const { signal } = this.#killing;
    while (!signal.aborted && !verdict.isWrong) {
      if (random.chance(0.5)) await this.#service.domainUp(domain).catch(() => undefined);
      await sleep((50 + random.below(400)) * this.#slowness, undefined, { signal }).catch(() => undefined);
      await this.#kill();
    }
  }

  /** Nobody is killed meanwhile: work that has a time limit needs a service that lives. */
  async calm<T>(work: () => Promise<T>): Promise<T> {
    this.#calm += 1;
    try {
      await this.#dying;
      // A service can do nothing if it meets a QEMU that already hangs (docs/pauses.md).
      await this.#service.domainUp(this.#parts.domain).catch(() => undefined);
      return await work();
    } finally {
      this.#calm -= 1;
    }
  }

  /** The job of this disk is there from now on. */
  enters(disk: number, phase: Phase): void {
    this.#now.set(disk, phase);
    const counts = [...this.phases.values()];
    const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
    const isRare = (this.phases.get(phase) ?? 0) < mean / 2;
    if (phase === 'ENDED' || !this.#parts.random.chance(isRare ? 0.6 : 0.2)) return;
    void sleep(this.#parts.random.below(60) * this.#slowness).then(async () => await this.#kill());
  }

  /** SIGKILL, and a new service; one at a time. */
  async #kill(): Promise<void> {
    if (this.#calm > 0 || this.#killing.signal.aborted) return;
    this.#dying ??= this.#die().finally(() => {
      this.#dying = undefined;
    });
    await this.#dying;
  }

  async #die(): Promise<void> {
    const { verdict, random, sights, service, waits } = this.#parts;
    if (verdict.isWrong) return;
    try {
      this.noComplaints();
      this.#kills += 1;
      for (const phase of this.#now.values()) this.phases.set(phase, (this.phases.get(phase) ?? 0) + 1);
      this.#ended();
      await this.#service.kill();
      this.#said.push(this.#service.log);
      this.#said.splice(0, this.#said.length - LOGS);
      this.#lastMs = Date.now();
      const sight = random.chance(0.3) ? sights[random.below(sights.length)] : undefined;
      if (sight !== undefined) this.sights.set(sight.name, (this.sights.get(sight.name) ?? 0) + 1);
      const uid = sight?.uid ?? OWN_UID;
      if (uid !== this.#uid) await this.#giveTo(uid);
      this.#uid = uid;
      const begunMs = performance.now();
      this.#service = await Service.start({ ...service, ...(sight && { under: sight.under }) });
      this.#slowness = Math.max(1, (performance.now() - begunMs) / QUIET_START_MS);
      this.#ended = waits.lives.open();
    } catch (error) {
      verdict.found(error);
    }
  }

  /** Makes the files as they would be if the service ran as this user. */
  async #giveTo(uid: number): Promise<void> {
    const { service, vmFolder } = this.#parts;
    // A socket that another user left there may still be in use, as far as this service can see.
    await rm(join(service.dir, 'api.sock'), { force: true });
    await run('chown', ['-R', `${uid}`, service.dir, join(vmFolder, 'disks')]);
    for (const folder of [service.dir, vmFolder]) await chmod(folder, 0o777);
    for (const socket of Object.values(service.qmp ?? {})) await chmod(socket, 0o666);
  }

  /** Asks again until some service answers; a typed refusal is an answer. */
  async persist<T>(ask: (service: Service) => Promise<T>): Promise<T | Refusal> {
    for (;;) {
      this.#parts.verdict.check();
      try {
        return await ask(this.#service);
      } catch (error) {
        const refusal = refusalIn(error);
        if (refusal !== undefined) return refusal;
        await sleep(20);
      }
    }
  }

  /** An error in the log of the service is a bug, or a loss. */
  noComplaints(): void {
    const [first] = complaints(this.#service);
    if (first !== undefined) throw new WrongOutcome(`the service complains: ${first}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.#service.stop();
  }
}

/** Undefined if there is no service now, or if it has not found its QEMU yet. */
export function refusalIn(error: unknown): Refusal | undefined {
  if (error instanceof Error && error.message === 'Channel has been shut down') return undefined;
  const refusal = refusalOf(error);
  // Without a reason it comes from gRPC itself.
  return ['', 'QEMU_UNREACHABLE', 'DOMAIN_NOT_FOUND'].includes(refusal.reason) ? undefined : refusal;
}
