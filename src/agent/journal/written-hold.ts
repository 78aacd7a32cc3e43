/** The hold of one VM's guest, as it is and as it is on disk: what is written down comes in the order in which it happened. */
import type { Logger } from 'pino';
import { type Hold, type Holder, withHolder } from '../../core/job/guest-hold.ts';
import { timestamp } from '../../lib/clock.ts';
import { Lane } from '../../lib/lane.ts';

/** What is known of the hold of the process that answers now, also from before this service was started. */
export interface HoldRecord {
  hold: Hold;
  /** It is proved to be the process that was held. */
  readonly isSame: boolean;
  /** Resolves when this is on disk, whatever `hold` has become meanwhile; one that is free is on none. */
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

  /** Whoever comes after us knows that a `cont` is owed. */
  get isOwedOnDisk(): boolean {
    return this.#isOwedOnDisk;
  }

  get now(): Hold {
    return this.#record().hold;
  }

  /** Not written down yet: with what comes next. */
  set now(hold: Hold) {
    this.#record().hold = hold;
  }

  /** It is proved to be of the process that answers now. */
  get isSame(): boolean {
    return this.#record().isSame;
  }

  /** What has happened already is not undone by a disk that is full, and the guest does not wait for one that hangs. */
  become(hold: Hold): void {
    const record = this.#record();
    record.hold = hold;
    this.#lane
      .run(async () => await this.#save(record, record.hold))
      .catch((error: unknown) => {
        this.#logger.error({ err: error }, 'what became of the hold of a guest cannot be written down');
      });
  }

  owe(owesCont: boolean): void {
    if (this.now.owesCont !== owesCont) this.become({ ...this.now, owesCont });
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
      // What has become otherwise while it was written.
    } while (isOwed() && !owesCont);
  }

  async #save(record: HoldRecord, hold: Hold): Promise<void> {
    // From here on either may be what is found.
    if (!hold.owesCont) this.#isOwedOnDisk = false;
    await record.save(hold);
    this.#isOwedOnDisk = hold.owesCont;
  }

  /** Resolves when all that has happened is on disk, or cannot be written down. */
  async done(): Promise<void> {
    await this.#lane.run(async () => undefined);
  }
}
