/**
 * A job of the fake QEMU (fake-qemu.ts): its statuses and events, in QEMU 7.2's order.
 *
 *              becomeReady          job-complete, block-job-cancel
 *   running ──────────────► ready ─────────────────────────────────► waiting, pending, concluded
 *      │  │ reachEnd (a pull, a commit of lower images)                       ▲
 *      │  └─────────────────────────► waiting, pending ── job-finalize, or by itself (auto-finalize)
 *      │ job-cancel, fail (also from ready and pending)
 *      └────────────────────────────────────────────────────────────► aborting, concluded
 */
export type Json = Readonly<Record<string, unknown>>;

/** A job may be paused, resumed and given another limit in these. */
const GOES_ON = ['created', 'running', 'paused', 'ready', 'standby'];

/** An error of QEMU. */
export class Refusal extends Error {
  readonly qemuClass: string;

  constructor(desc: string, qemuClass = 'GenericError') {
    super(desc);
    this.qemuClass = qemuClass;
  }
}

export function refuse(desc: string, qemuClass?: string): never {
  throw new Refusal(desc, qemuClass);
}

/** The real end of a job, whatever others heard about it. */
export type End =
  /** The purpose of the job is done: the pivot, the pull, the commit. */
  | 'DONE'
  /** Ended without error at READY, and the device stays where it is: the target is a complete copy. */
  | 'COPIED'
  | 'CANCELLED'
  | 'FAILED';

/** The nodes of a job in the block graph. */
export interface JobNodes {
  readonly filter: string;
  /** The names of its nodes in the graph. */
  readonly uses: readonly { readonly edge: string; readonly node: string }[];
  /** The roots of its own backends. */
  readonly own: readonly string[];
  /** Its source nodes are busy for other commands. */
  readonly blocks: boolean;
  readonly begin: () => void;
  readonly end: (done: boolean) => void;
}

/** The arguments of a command about the job that it starts. */
export interface JobSpec {
  readonly id: string;
  readonly type: string;
  readonly nodes: JobNodes | undefined;
  /** Without job-finalize; without job-dismiss. */
  readonly ends: { readonly byItself: boolean; readonly dismissed: boolean };
}

export interface JobHooks {
  readonly event: (event: string, data: Json) => void;
  readonly afterReply: (work: () => void) => void;
  readonly dismissed: () => void;
}

/** The changing state of a job. */
export interface JobState {
  readonly status: string;
  readonly lengthBytes: number;
  readonly offsetBytes: number;
  readonly speed: number;
  readonly userPaused: boolean;
  readonly ioStatus: 'ok' | 'nospace';
  readonly error: string | undefined;
  readonly end: End | undefined;
  readonly endTime: string | undefined;
}

export class FakeJob {
  readonly id: string;
  readonly type: string;
  readonly nodes: JobNodes | undefined;
  readonly #ends: JobSpec['ends'];
  readonly #hooks: JobHooks;
  #state: JobState = {
    status: 'undefined',
    lengthBytes: 0,
    offsetBytes: 0,
    speed: 0,
    userPaused: false,
    ioStatus: 'ok',
    error: undefined,
    end: undefined,
    endTime: undefined,
  };

  constructor({ id, type, nodes, ends }: JobSpec, hooks: JobHooks) {
    this.id = id;
    this.type = type;
    this.nodes = nodes;
    this.#ends = ends;
    this.#hooks = hooks;
  }

  get state(): JobState {
    return this.#state;
  }

  /** Restores an earlier state. */
  restore(state: JobState): void {
    this.#state = state;
  }

  get status(): string {
    return this.#state.status;
  }

  /** The job knows its amount of work. */
  set lengthBytes(lengthBytes: number) {
    this.#change({ lengthBytes });
  }

  /** The nodes that it holds now: those of a finished commit of lower images, until it is dismissed. */
  get held(): JobNodes | undefined {
    if (this.status !== 'concluded' || this.nodes === undefined) return this.nodes;
    return this.#isCommit && this.#state.end === 'DONE' ? { ...this.nodes, own: [], blocks: true } : undefined;
  }

  /** Whether it is a commit of lower images: one of the active image is a mirror. */
  get #isCommit(): boolean {
    return this.nodes?.blocks === false;
  }

  #change(changes: Partial<JobState>): void {
    this.#state = { ...this.#state, ...changes };
  }

  enter(status: string): void {
    this.#change({ status });
    this.#hooks.event('JOB_STATUS_CHANGE', { status, id: this.id });
  }

  /** Source and target are equal. */
  becomeReady(): void {
    this.#change({ offsetBytes: this.#state.lengthBytes });
    this.enter('ready');
    this.#hooks.event('BLOCK_JOB_READY', this.#numbers());
  }

  /** Everything is pulled, or committed. */
  reachEnd(): void {
    this.#change({ offsetBytes: this.#state.lengthBytes });
    if (this.#ends.byItself) {
      this.conclude(['waiting', 'pending'], 'DONE', { event: 'BLOCK_JOB_COMPLETED' });
      return;
    }
    for (const status of ['waiting', 'pending']) this.enter(status);
    this.#hooks.event('BLOCK_JOB_PENDING', { id: this.id, type: this.type });
  }

  finalize(): Json {
    this.#allow('finalize', ['pending']);
    this.conclude([], 'DONE', { event: 'BLOCK_JOB_COMPLETED' });
    return {};
  }

  /** The job fails. */
  fail(error: string): void {
    this.conclude(['aborting'], 'FAILED', { error, event: 'BLOCK_JOB_COMPLETED' });
  }

  /** A drain stops the job, and resumes it. */
  drained(): void {
    const { status } = this;
    if (status !== 'ready' && status !== 'running') return;
    this.enter(status === 'ready' ? 'standby' : 'paused');
    this.enter(status);
  }

  complete(): Json {
    this.#allow('complete', ['ready']);
    this.#hooks.afterReply(() => this.conclude(['waiting', 'pending'], 'DONE', { event: 'BLOCK_JOB_COMPLETED' }));
    return {};
  }

  cancel(force: boolean): Json {
    this.#allow('cancel', [...GOES_ON, 'pending']);
    const soft = this.status === 'ready' && !force;
    const end = () => {
      if (soft) this.conclude(['waiting', 'pending'], 'COPIED', { event: 'BLOCK_JOB_COMPLETED' });
      else this.conclude(['aborting'], 'CANCELLED', { error: 'Operation canceled', event: 'BLOCK_JOB_CANCELLED' });
    };
    // A job that waits for nothing ends within the command.
    if (this.status === 'pending' || this.#isCommit) end();
    else this.#hooks.afterReply(end);
    return {};
  }

  setSpeed(speed: number): Json {
    this.#allow('set-speed', GOES_ON);
    this.#change({ speed });
    return {};
  }

  pause(): Json {
    this.#allow('pause', GOES_ON);
    if (this.#state.userPaused) refuse('Job is already paused');
    const paused = this.status === 'ready' ? 'standby' : 'paused';
    this.#change({ userPaused: true });
    this.enter(paused);
    return {};
  }

  /** The target is full, and the job was started with on-target-error=enospc. */
  runOutOfSpace(): void {
    this.#hooks.event('BLOCK_JOB_ERROR', { device: this.id, operation: 'write', action: 'stop' });
    this.#change({ userPaused: true, ioStatus: 'nospace' });
    this.enter('paused');
  }

  resume(): Json {
    if (!this.#state.userPaused) refuse("Can't resume a job that was not paused");
    this.#change({ userPaused: false, ioStatus: 'ok' });
    this.enter(this.status === 'standby' ? 'ready' : 'running');
    return {};
  }

  dismiss(): Json {
    this.#allow('dismiss', ['concluded']);
    this.enter('null');
    this.#hooks.dismissed();
    return {};
  }

  conclude(by: readonly string[], end: End, { error, event }: { error?: string; event?: string } = {}): void {
    for (const status of by) this.enter(status);
    this.#change({ error, end, endTime: new Date().toISOString() });
    this.nodes?.end(end === 'DONE');
    const why = error === undefined || event === 'BLOCK_JOB_CANCELLED' ? {} : { error };
    if (event !== undefined) this.#hooks.event(event, { ...this.#numbers(), ...why });
    this.enter('concluded');
    if (this.#ends.dismissed) this.dismiss();
  }

  #allow(verb: string, statuses: readonly string[]): void {
    if (statuses.includes(this.status)) return;
    refuse(`Job '${this.id}' in state '${this.status}' cannot accept command verb '${verb}'`);
  }

  #numbers(): Json {
    const { lengthBytes, offsetBytes, speed } = this.#state;
    return { device: this.id, len: lengthBytes, offset: offsetBytes, speed, type: this.type };
  }

  asJob(): Json {
    const { id, type } = this;
    const { status, offsetBytes, lengthBytes, error } = this.#state;
    const why = error === undefined ? {} : { error };
    return { id, type, status, 'current-progress': offsetBytes, 'total-progress': lengthBytes, ...why };
  }

  asBlockJob(): Json {
    const ready = this.status === 'ready' || this.status === 'standby';
    return {
      ...this.#numbers(),
      status: this.status,
      ready,
      paused: this.#state.userPaused,
      busy: false,
      'io-status': this.#state.ioStatus,
    };
  }
}
