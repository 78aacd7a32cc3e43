/**
 * QEMU as far as the table of core/next-move meets it, without a process: one job and its guest. The commands that it
 * takes in each status are those of QEMU's JobVerbTable (job.c); test/qemu/model-is-true.test.ts compares them with a
 * real QEMU. Work that takes time happens at a `tick`, one step each.
 */
import type { HeaderOnDisk } from '../../../src/core/job/handover.ts';
import type { DeviceOn } from '../../../src/core/job/journal-entry.ts';
import type { JobKind } from '../../../src/core/job-options.ts';
import type { Seen, SeenJob } from '../../../src/core/moves/moves.ts';
import type { GuestCommand, QmpCommand } from '../../../src/core/qemu/commands.ts';
import type { QemuJobStatus } from '../../../src/core/qemu/replies.ts';

export const QEMU_JOB_STATUSES = [
  'undefined',
  'created',
  'running',
  'paused',
  'ready',
  'standby',
  'waiting',
  'pending',
  'aborting',
  'concluded',
  'null',
] as const satisfies readonly QemuJobStatus[];

export const GOES_ON: readonly QemuJobStatus[] = ['created', 'running', 'paused', 'ready', 'standby'];

/** The statuses in which each command is taken. */
export const VERBS: Readonly<Partial<Record<QmpCommand['execute'], readonly QemuJobStatus[]>>> = {
  'job-cancel': [...GOES_ON, 'waiting', 'pending'],
  'block-job-cancel': [...GOES_ON, 'waiting', 'pending'],
  'job-pause': GOES_ON,
  'job-resume': GOES_ON,
  'block-job-set-speed': GOES_ON,
  'block-job-change': GOES_ON,
  'job-complete': ['ready', 'standby'],
  'job-finalize': ['pending'],
  'job-dismiss': ['concluded'],
};

/** Whether QEMU continues from pending by itself, as this service sets up its jobs. */
export const GOES_ON_FROM_PENDING: Readonly<Record<JobKind, boolean>> = {
  COPY: true,
  ACTIVE_COMMIT: true,
  COMMIT: false,
  PULL: false,
};

/** The reason why a job does not continue. DRAINED: for a moment, by another client, and nobody can resume it. */
export type Halt = 'USER' | 'NO_SPACE' | 'DRAINED';

export interface ModelState {
  readonly status: QemuJobStatus | 'ABSENT';
  readonly halt: Halt | undefined;
  readonly guestRuns: boolean;
  readonly guestMigrates: boolean;
  /**
   * QEMU hangs on a network destination: only a yank gets through to the job; a drain waits for it, and so the job
   * looks paused; or no answer comes at all.
   */
  readonly hangs: 'NOT' | 'JOB' | 'DRAIN' | 'ALL';
  /** SILENT: it does not answer, and nothing proves that it has ended. */
  readonly presence: 'UP' | 'SILENT' | 'ENDED';
  /** For a pull, or a commit of lower images: the header on disk, and whether the images can be flushed. */
  readonly header: HeaderOnDisk['is'];
  readonly flushes: boolean;
}

export class ModelQemu {
  readonly #kind: JobKind;
  #now: ModelState;
  #error: string | undefined;
  #deviceOn: DeviceOn = 'SOURCE';
  #speed: number;
  /** The work of a READY job when it is settled. */
  #completing: 'NOT' | 'PIVOT' | 'SOFT' = 'NOT';
  #spaceIsShort: boolean;

  constructor(
    kind: JobKind,
    state: ModelState,
    { speed, pivots }: { readonly speed: number; readonly pivots: boolean },
  ) {
    this.#kind = kind;
    this.#now = state;
    this.#speed = speed;
    this.#spaceIsShort = state.halt === 'NO_SPACE';
    if (['waiting', 'pending'].includes(state.status)) this.#completing = pivots ? 'PIVOT' : 'SOFT';
    if (state.status === 'aborting') this.#error = 'Operation canceled';
  }

  get now(): ModelState {
    return this.#now;
  }

  #become(changes: Partial<ModelState>): true {
    this.#now = { ...this.#now, ...changes };
    return true;
  }

  get seen(): Seen {
    const { presence, hangs, status, guestRuns, guestMigrates, halt } = this.#now;
    if (presence === 'ENDED') return { qemu: 'ENDED' };
    if (presence === 'SILENT' || hangs === 'ALL') return { qemu: 'SILENT' };
    const job: SeenJob | undefined =
      status === 'ABSENT'
        ? undefined
        : {
            status,
            error: this.#error,
            ioStatus: halt === 'NO_SPACE' ? 'nospace' : 'ok',
            paused: halt !== undefined || hangs === 'DRAIN',
            speedBytesPerSecond: this.#speed,
            remainingBytes: 0,
            copiedBytes: 0,
            begun: status !== 'created',
          };
    return {
      qemu: 'UP',
      at: '2026-01-01T00:00:00.000Z',
      job,
      deviceOn: this.#deviceOn,
      devicePath: this.#deviceOn === 'SOURCE' ? '/vm/source' : '/vm/destination',
      guestRuns,
      guestMigrates,
    };
  }

  /** The reader of the header; QEMU need not live for that. */
  get header(): HeaderOnDisk {
    const { header } = this.#now;
    if (header === 'NEW') return { is: header };
    return header === 'OLD' ? { is: header, backingFile: '/vm/old' } : { is: header, why: 'it cannot be read' };
  }

  /** One event that happens by itself; false if none does, however long one waits. */
  tick(): boolean {
    const { status, halt, hangs, presence } = this.#now;
    if (presence !== 'UP' || hangs !== 'NOT') return false;
    if (halt === 'DRAINED')
      return this.#become({ halt: undefined, status: status === 'standby' ? 'ready' : 'running' });
    switch (status) {
      case 'undefined':
        return this.#become({ status: 'created' });
      case 'created':
        return halt === undefined && this.#become({ status: 'running' });
      case 'running':
        return this.#runs();
      case 'ready':
        if (this.#completing === 'NOT') return false;
        return this.#become({ status: 'waiting' });
      case 'waiting':
        return this.#become({ status: 'pending' });
      case 'pending':
        return GOES_ON_FROM_PENDING[this.#kind] && this.#conclude();
      case 'aborting':
        return this.#conclude();
      default:
        return false;
    }
  }

  #runs(): true {
    if (this.#spaceIsShort) return this.#become({ status: 'paused', halt: 'NO_SPACE' });
    const isMirror = this.#kind === 'COPY' || this.#kind === 'ACTIVE_COMMIT';
    return this.#become({ status: isMirror ? 'ready' : 'waiting' });
  }

  #conclude(): true {
    if (this.#error === undefined && this.#completing === 'PIVOT') this.#deviceOn = 'DESTINATION';
    const isWritten = this.#error === undefined && !GOES_ON_FROM_PENDING[this.#kind] && this.#now.header === 'OLD';
    return this.#become({ status: 'concluded', halt: undefined, ...(isWritten ? { header: 'NEW' } : {}) });
  }

  #abort(error: string): void {
    this.#error = error;
    this.#become({ status: 'aborting', halt: undefined });
  }

  /** Commands of the hold of its VM: none of them is refused here. */
  steer({ execute: command }: GuestCommand): void {
    this.#become({ guestRuns: command === 'cont' });
  }

  /** The error of QEMU; undefined if it is done, or will be. Commands that are not about the job are taken. */
  execute({ execute: command, ...rest }: QmpCommand): string | undefined {
    const { status, halt, hangs } = this.#now;
    const taken = VERBS[command];
    if (taken !== undefined && status === 'ABSENT') return 'Job not found';
    const isHalted = halt === 'USER' || halt === 'NO_SPACE';
    // QEMU checks it before the status.
    if (command === 'job-resume' && !isHalted) return "Can't resume a job that was not paused";
    if (taken !== undefined && !taken.includes(status as QemuJobStatus)) {
      return `Job in state '${status}' cannot accept command verb '${command}'`;
    }
    switch (command) {
      case 'block-job-cancel':
        if (isHalted) return 'The block job is currently paused';
        this.#completing = 'SOFT';
        return undefined;
      case 'job-cancel':
        if (hangs === 'NOT') this.#abort('Operation canceled');
        return undefined;
      case 'yank':
        if (hangs !== 'NOT') this.#become({ hangs: 'NOT' });
        // Work that needs the connection fails; a job that is over does not.
        if (GOES_ON.includes(status as QemuJobStatus)) this.#abort('Input/output error');
        return undefined;
      case 'job-complete':
        this.#completing = 'PIVOT';
        return undefined;
      case 'job-finalize':
        this.#conclude();
        return undefined;
      case 'job-pause':
        if (isHalted) return 'Job is already paused';
        this.#become({ halt: 'USER', status: status === 'ready' || status === 'standby' ? 'standby' : 'paused' });
        return undefined;
      case 'job-resume':
        this.#become({ halt: undefined, status: status === 'standby' ? 'ready' : 'running' });
        return undefined;
      case 'block-job-set-speed':
        if ('arguments' in rest && 'speed' in rest.arguments && typeof rest.arguments.speed === 'number') {
          this.#speed = rest.arguments.speed;
        }
        return undefined;
      // The node is flushed first; other changes are not possible.
      case 'blockdev-reopen':
        return this.#now.flushes
          ? 'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap'
          : 'Input/output error';
      default:
        return undefined;
    }
  }
}
