/**
 * A job of the fake QEMU (fake-qemu.ts): its statuses and events, in QEMU 7.2's order.
 *
 *              becomeReady          job-complete, block-job-cancel
 *   running ──────────────► ready ─────────────────────────────────► waiting, pending, concluded
 *      │ job-cancel, fail     │ job-cancel, force, fail
 *      └──────────────────────┴────────────────────────────────────► aborting, concluded
 */
export type Json = Readonly<Record<string, unknown>>;

/** What QEMU says no with. */
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

export interface Mirror {
  readonly source: string;
  readonly target: string;
  readonly filter: string;
}

export interface JobHooks {
  readonly event: (event: string, data: Json) => void;
  readonly afterReply: (work: () => void) => void;
  readonly ended: (pivoted: boolean) => void;
  readonly dismissed: () => void;
}

export class FakeJob {
  readonly id: string;
  readonly type: string;
  readonly mirror: Mirror | undefined;
  readonly #hooks: JobHooks;
  status = 'undefined';
  lengthBytes = 0;
  offsetBytes = 0;
  #error: string | undefined;

  constructor(id: string, type: string, mirror: Mirror | undefined, hooks: JobHooks) {
    this.id = id;
    this.type = type;
    this.mirror = mirror;
    this.#hooks = hooks;
  }

  enter(status: string): void {
    this.status = status;
    this.#hooks.event('JOB_STATUS_CHANGE', { status, id: this.id });
  }

  /** Source and target are equal. */
  becomeReady(): void {
    this.offsetBytes = this.lengthBytes;
    this.enter('ready');
    this.#hooks.event('BLOCK_JOB_READY', this.#numbers());
  }

  /** The copy gives up. */
  fail(error: string): void {
    this.conclude(['aborting'], error, 'BLOCK_JOB_COMPLETED');
  }

  /** A drain stops the job, and lets it go on. */
  drained(): void {
    const { status } = this;
    if (status !== 'ready' && status !== 'running') return;
    this.enter(status === 'ready' ? 'standby' : 'paused');
    this.enter(status);
  }

  complete(): Json {
    this.#allow('complete', ['ready']);
    this.#hooks.afterReply(() => this.conclude(['waiting', 'pending'], undefined, 'BLOCK_JOB_COMPLETED', true));
    return {};
  }

  cancel(force: boolean): Json {
    this.#allow('cancel', ['created', 'running', 'ready']);
    const soft = this.status === 'ready' && !force;
    this.#hooks.afterReply(() => {
      if (soft) this.conclude(['waiting', 'pending'], undefined, 'BLOCK_JOB_COMPLETED');
      else this.conclude(['aborting'], 'Operation canceled', 'BLOCK_JOB_CANCELLED');
    });
    return {};
  }

  dismiss(): Json {
    this.#allow('dismiss', ['concluded']);
    this.enter('null');
    this.#hooks.dismissed();
    return {};
  }

  conclude(by: readonly string[], error?: string, event?: string, pivoted = false): void {
    for (const status of by) this.enter(status);
    this.#error = error;
    this.#hooks.ended(pivoted);
    const why = error === undefined || event === 'BLOCK_JOB_CANCELLED' ? {} : { error };
    if (event !== undefined) this.#hooks.event(event, { ...this.#numbers(), ...why });
    this.enter('concluded');
  }

  #allow(verb: string, statuses: readonly string[]): void {
    if (statuses.includes(this.status)) return;
    refuse(`Job '${this.id}' in state '${this.status}' cannot accept command verb '${verb}'`);
  }

  #numbers(): Json {
    return { device: this.id, len: this.lengthBytes, offset: this.offsetBytes, speed: 0, type: this.type };
  }

  asJob(): Json {
    const { id, type, status, offsetBytes, lengthBytes } = this;
    const error = this.#error === undefined ? {} : { error: this.#error };
    return { id, type, status, 'current-progress': offsetBytes, 'total-progress': lengthBytes, ...error };
  }

  asBlockJob(): Json {
    const ready = this.status === 'ready' || this.status === 'standby';
    return { ...this.#numbers(), status: this.status, ready, paused: false, busy: false, 'io-status': 'ok' };
  }
}
