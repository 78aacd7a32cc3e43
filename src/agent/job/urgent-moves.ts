/** The moves that cannot wait for an answer of QEMU, made beside the work that waits for one. */
import type { Logger } from 'pino';
import { isOverNetwork } from '../../core/job/job-facts.ts';
import { mayHangInMs } from '../../core/moves/circumstances.ts';
import { mayBeBroken, urgentMove, yankOf } from '../../core/moves/urgent-move.ts';
import { LinkedAbort } from '../../lib/wake.ts';
import { Refused } from '../../qmp/errors.ts';
import type { JobLog } from '../journal/job-log.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { AskedSoFar } from './asked-so-far.ts';

export interface UrgentMovesOptions {
  readonly log: JobLog;
  readonly asked: AskedSoFar;
  /** Other jobs of this QEMU that copy over the network to destinations that no guest can be on yet. */
  readonly copiesBeside: () => readonly JobLog[];
  readonly logger: Logger;
}

export class UrgentMoves {
  readonly #options: UrgentMovesOptions;

  constructor(options: UrgentMovesOptions) {
    this.#options = options;
  }

  /** Does the work, which may wait for QEMU for ever; urgent moves are made meanwhile. */
  async beside<T>(machine: VirtualMachine | undefined, work: () => Promise<T>): Promise<T> {
    if (machine === undefined) return await work();
    await this.#act(machine);
    using done = new LinkedAbort(undefined);
    const minding = this.#mind(machine, done.signal);
    try {
      return await work();
    } finally {
      done[Symbol.dispose]();
      await minding;
    }
  }

  async #mind(machine: VirtualMachine, signal: AbortSignal): Promise<void> {
    const { log, asked } = this.#options;
    while (!signal.aborted) {
      const since = log.changed.now;
      await this.#act(machine);
      await log.changed.after(since, {
        signal,
        timeoutMs: mayHangInMs(asked.memory, asked.moment.nowMs, machine.silence.ms),
      });
    }
  }

  /** Without a connection to break, the job can be ended as any other. */
  async #act(machine: VirtualMachine): Promise<void> {
    const { log, asked, copiesBeside } = this.#options;
    const { identity } = machine;
    if (identity === undefined) return;
    const { accepted } = log.job;
    const isUnderWay = machine.isUnderWay(accepted.job);
    const heard = { silentMs: machine.silence.ms, isUnderWay, connectionBroken: log.connectionBroken };
    asked.note({ is: 'written', job: log.job, generation: identity.generation });
    switch (urgentMove(log.job, asked.now(heard).asked)) {
      case undefined:
        return;
      case 'YANK':
        asked.note({ is: 'asked', asking: 'yank' });
        await this.#yank(accepted.job, machine);
        return;
      case 'YANK_COPIES': {
        asked.note({ is: 'copies-yanked' });
        // Its own pivot, if it continues, was not requested over this connection.
        const isOwn = log.job.concluded === undefined ? isOverNetwork(log.job) : mayBeBroken(log.job);
        for (const copy of [...(isOwn ? [log] : []), ...copiesBeside()]) {
          if (await this.#yank(copy.job.accepted.job, machine)) copy.connectionIsBroken();
        }
      }
    }
  }

  /** Returns whether there was a connection. */
  async #yank(job: string, machine: VirtualMachine): Promise<boolean> {
    const { logger } = this.#options;
    try {
      await machine.executeOutOfBand(yankOf(job));
      logger.warn({ broken: job }, 'The connection of a copy hung, and was broken');
      return true;
    } catch (error) {
      if (!(error instanceof Refused) && !isUnreachable(error)) throw error;
      const why = error instanceof Refused ? error.desc : String(error);
      logger.info({ broken: job, why }, 'A copy has no connection to break');
      return false;
    }
  }
}
