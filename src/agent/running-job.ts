/**
 * One job that has not ended: looks at QEMU, asks core/next-move what to do, does it, and looks again whenever
 * something may have changed. QEMU's events only wake it; what is true it asks.
 *
 *        ┌──────────────── wake: event, connection, request, timer ◄───────────────┐
 *        ▼                                                                         │
 *      look at QEMU ──► next-move(journal, QEMU) ──► write it down ──► do it ──────┘
 */
import type { Logger } from 'pino';
import type { Job } from '../core/job.ts';
import type { DeviceOn } from '../core/journal-entry.ts';
import { type Move, nextMove, type Seen } from '../core/next-move.ts';
import type { QemuBlockJob } from '../core/qemu/replies.ts';
import { LinkedAbort } from '../lib/linked-abort.ts';
import { Wake } from '../lib/wake.ts';
import { Refused } from '../qmp/errors.ts';
import { AskedSoFar, HOLD_LIMIT_MS } from './asked-so-far.ts';
import { isUnreachable } from './failures.ts';
import type { JobLog } from './job-log.ts';
import { JobSteps } from './job-steps.ts';
import { isAlive, isSame } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';

export interface RunningJobOptions {
  readonly log: JobLog;
  /** The VM of this job as it is now; undefined: there is none. */
  readonly machine: () => VirtualMachine | undefined;
  /** Paths that any domain's graph holds now. */
  readonly heldPaths: () => Promise<ReadonlySet<string>>;
  /** Told of what QEMU says on the way, so that progress is never older than the state. */
  readonly onBlockJobs: (blockJobs: readonly QemuBlockJob[]) => void;
  readonly logger: Logger;
}

/** When QEMU tells of nothing: while a job gets going, while a pivot waits, and while QEMU cannot be asked. */
const LOOK_AGAIN_MS = { STARTING: 20, PIVOTING: 500, held: 10, unreachable: 1000 };

export class RunningJob {
  readonly #log: JobLog;
  readonly #steps: JobSteps;
  readonly #options: RunningJobOptions;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #asked = new AskedSoFar();
  #leaveBy = Infinity;

  constructor(options: RunningJobOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#logger = options.logger.child({
      job: this.#job.accepted.job,
      domain: this.#job.accepted.domain,
      disk: this.#job.accepted.disk,
    });
    this.#steps = new JobSteps({ log: this.#log, heldPaths: options.heldPaths, logger: this.#logger });
  }

  get #job(): Job {
    return this.#log.job;
  }

  /** Runs the plan of a new job. It is written down how far that came; `drive` does the rest. */
  async start(): Promise<void> {
    try {
      await this.#steps.begin(this.#options.machine());
    } catch (error) {
      // The journal cannot be written: nothing more is done, and `drive` takes back what was.
      this.#logger.error({ err: error }, 'the start of the job failed');
    }
  }

  /** Returns when the job has ended, or when `close` is called; the job then goes on in QEMU. */
  async drive(): Promise<void> {
    while (!this.#log.ended && !this.#mayLeave) {
      const machine = this.#options.machine();
      const before = { log: this.#log.changed.now, machine: machine?.wake.now ?? 0 };
      try {
        const seen = await this.#look(machine);
        const move = seen && nextMove(this.#job, seen, this.#asked.now(this.#job, machine?.identity?.generation ?? 0));
        if (move === undefined || move.move === 'wait') await this.#wait(machine, before);
        else await this.#perform(move, seen?.qemu === 'UP' ? machine : undefined);
      } catch (error) {
        if (isUnreachable(error)) {
          await this.#wait(machine, before);
        } else {
          this.#logger.error({ err: error }, 'a move of the job failed; trying again');
          await this.#pause(LOOK_AGAIN_MS.unreachable);
        }
      }
    }
  }

  /** Stops looking after the job. It goes on in QEMU, and whoever reads the journal can take it up. */
  close(): void {
    this.#leaveBy = performance.now() + 2 * HOLD_LIMIT_MS;
    this.#stop.abort();
  }

  /** A guest that is paused for its pivot is not left like that, unless QEMU does not let us continue it. */
  get #mayLeave(): boolean {
    return this.#stop.signal.aborted && (!this.#job.guestHeld || performance.now() > this.#leaveBy);
  }

  async #wait(machine: VirtualMachine | undefined, before: { log: number; machine: number }): Promise<void> {
    using stopped = new LinkedAbort(this.#job.guestHeld ? undefined : this.#stop.signal);
    const { signal } = stopped;
    const timeoutMs = this.#lookAgainMs(machine);
    const timeout = timeoutMs === undefined ? {} : { timeoutMs };
    const changes = [this.#log.changed.after(before.log, { signal, ...timeout })];
    if (machine !== undefined) changes.push(machine.wake.after(before.machine, { signal }));
    await Promise.race(changes);
  }

  /** Undefined: an event, a request or the connection will tell. */
  #lookAgainMs(machine: VirtualMachine | undefined): number | undefined {
    if (machine?.identity === undefined) return LOOK_AGAIN_MS.unreachable;
    const { state, guestHeld } = this.#job;
    if (guestHeld) return LOOK_AGAIN_MS.held;
    return state === 'STARTING' || state === 'PIVOTING' ? LOOK_AGAIN_MS[state] : undefined;
  }

  /** Undefined: QEMU cannot be asked now, and may well be alive. */
  async #look(machine: VirtualMachine | undefined): Promise<Seen | undefined> {
    const { accepted } = this.#job;
    if (accepted.process !== undefined && !(await isAlive(accepted.process))) {
      return { qemu: 'ENDED', devicePath: undefined };
    }
    if (machine?.identity === undefined) return undefined;
    // Another process under the same name, as while a guest migrates: it knows nothing of this job.
    const { facts } = machine.identity;
    if (accepted.process !== undefined && facts !== undefined && !isSame(accepted.process, facts.process))
      return undefined;
    const [jobs, blockJobs, guestRuns] = await Promise.all([machine.jobs(), machine.blockJobs(), machine.guestRuns()]);
    this.#options.onBlockJobs(blockJobs);
    const job = jobs.find((one) => one.id === accepted.job);
    const blockJob = blockJobs.find((one) => one.id === accepted.job);
    const runs = job !== undefined && job.status !== 'concluded';
    // Where the device is matters when the job is over, and the graph is much to ask for at every event.
    const place = runs ? { deviceOn: 'SOURCE' as const, devicePath: undefined } : await this.#deviceOn(machine);
    return {
      qemu: 'UP',
      job: job && {
        status: job.status,
        error: job.error,
        ioStatus: blockJob?.ioStatus ?? 'ok',
        paused: blockJob?.paused ?? false,
        speedBytesPerSecond: blockJob?.speedBytesPerSecond ?? this.#job.bandwidthBytesPerSecond,
        remainingBytes: blockJob === undefined ? 0 : Math.max(0, blockJob.lengthBytes - blockJob.offsetBytes),
        begun: job.endBytes > 0 || !['created', 'running'].includes(job.status),
      },
      ...place,
      guestRuns,
    };
  }

  async #deviceOn(machine: VirtualMachine): Promise<{ deviceOn: DeviceOn; devicePath: string | undefined }> {
    const { source, destination, qdev } = this.#job.accepted;
    const { disks } = await machine.graph();
    const top = disks.find((disk) => disk.qdev === qdev)?.chain[0];
    if (top === undefined) return { deviceOn: 'NOWHERE', devicePath: undefined };
    const deviceOn = top.node === destination.node ? 'DESTINATION' : top.node === source.node ? 'SOURCE' : 'ELSEWHERE';
    return { deviceOn, devicePath: top.path };
  }

  async #perform(move: Exclude<Move, { move: 'wait' }>, machine: VirtualMachine | undefined): Promise<void> {
    switch (move.move) {
      case 'record':
        this.#logger.info({ entry: move.entry.entry }, 'job');
        // What a request has made impossible meanwhile is decided anew at the next look.
        if ((await this.#log.append(move.entry)) === undefined) await this.#pause();
        return;
      case 'command':
        await this.#command(move, machine);
        return;
      case 'hold-guest':
        if (!this.#job.guestHeld) await this.#log.append({ entry: 'guest-held', because: move.because });
        await machine?.execute({ execute: 'stop' });
        return;
      case 'release-guest':
        await this.#releaseGuest(machine);
        return;
      case 'undo-start':
        await this.#steps.takeBack(machine);
        return;
      case 'settle':
        await this.#steps.settle(machine);
        return;
    }
  }

  async #releaseGuest(machine: VirtualMachine | undefined): Promise<void> {
    try {
      await machine?.execute({ execute: 'cont' });
    } catch (error) {
      // It has shut down or panicked meanwhile: no longer ours to continue.
      if (!(error instanceof Refused)) throw error;
      this.#logger.warn({ why: error.desc }, 'the guest that was paused for the pivot cannot be continued');
    }
    await this.#log.append({ entry: 'guest-released' });
  }

  async #command(move: Extract<Move, { move: 'command' }>, machine: VirtualMachine | undefined): Promise<void> {
    this.#asked.add(move.asks);
    try {
      await machine?.execute(move.command);
      if (move.proves === undefined) return;
      await this.#log.append(move.proves);
      this.#asked.delete(move.asks);
    } catch (error) {
      // Its state has changed under the command: the next look tells to what.
      if (!(error instanceof Refused)) throw error;
      this.#logger.info({ command: move.command.execute, why: error.desc }, 'QEMU refused; looking again');
      this.#asked.delete(move.asks);
      await this.#pause();
    }
  }

  /** What did not fit this instant may fit the next one. */
  async #pause(timeoutMs = 100): Promise<void> {
    const nothing = new Wake();
    await nothing.after(nothing.now, { timeoutMs, signal: this.#stop.signal });
  }
}
