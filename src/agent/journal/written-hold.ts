/** The hold of one VM's guest, in memory and on disk: its changes are written down in the order in which they happened. */
import type { Logger } from 'pino';
import { type Hold, type Holder, withHolder } from '../../core/job/guest-hold.ts';
import { timestamp } from '../../lib/clock.ts';
import { Lane } from '../../lib/lane.ts';

/** The hold of the process that answers now, also from before this service was started. */
export interface HoldRecord {
  hold: Hold;
  /** Whether it is proved to be the process that was held. */
  readonly isSame: boolean;
  /** Resolves when this is on disk, even if `hold` has changed since; a free hold is not on disk. */
  save(hold: Hold): Promise<void>;
}

export class WrittenHold {
  readonly #record: () => HoldRecord;
  readonly #logger: Logger;
  readonly #lane = new Lane();
  #isOwedOnDisk = false;

  constructor(record: () => HoldRecord, logger: Logger) {
    this.#record = record;
    this.#logger = logger;
  }

  /** A service after this one knows that a `cont` is owed. */
  get isOwedOnDisk(): boolean {
    return this.#isOwedOnDisk;
  }

  get now(): Hold {
    return this.#record().hold;
  }

  /** Not written down yet: it is, with the next change. */
  set now(hold: Hold) {
    this.#record().hold = hold;
  }

  /** Whether it is proved to belong to the process that answers now. */
  get isSame(): boolean {
    return this.#record().isSame;
  }

  /** A full disk does not undo a change that has happened, and the guest does not wait for a disk that hangs. */
  become(hold: Hold): void {
    const record = this.#record();
    record.hold = hold;
    this.#lane
      .run(async () => await this.#save(record, record.hold))
      .catch((error: unknown) => {
        this.#logger.error({ err: error }, "The end of a guest's hold cannot be written down");
      });
  }

  owe(owesCont: boolean): void {
    if (this.now.owesCont !== owesCont) this.become({ ...this.now, owesCont });
  }

  /** Returns when it is on disk that these jobs of QEMU are paused. */
  async pauses(pausedJobs: readonly string[]): Promise<void> {
    const record = this.#record();
    await this.#lane.run(async () => {
      record.hold = { ...record.hold, pausedJobs };
      await this.#save(record, record.hold);
    });
  }

  /** Returns when it is on disk that the job holds the guest, and that a `cont` is owed, if one is by then. */
  async add(by: Omit<Holder, 'since'>, isOwed: () => boolean): Promise<void> {
    const holder = { ...by, since: timestamp() };
    const record = this.#record();
    let owesCont: boolean;
    do {
      owesCont = isOwed();
      await this.#lane.run(async () => {
        const next = { ...withHolder(record.hold, holder), owesCont };
        await this.#save(record, next);
        record.hold = next;
      });
      // Changes that were made while this was written.
    } while (isOwed() && !owesCont);
  }

  async #save(record: HoldRecord, hold: Hold): Promise<void> {
    // From here on a restart may find either state.
    if (!hold.owesCont) this.#isOwedOnDisk = false;
    await record.save(hold);
    this.#isOwedOnDisk = hold.owesCont;
  }

  /** Resolves when all changes are on disk, or cannot be written down. */
  async done(): Promise<void> {
    await this.#lane.run(async () => undefined);
  }
}
