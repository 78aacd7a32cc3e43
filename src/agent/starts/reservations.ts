/** The disks on which starts are being prepared, and the files that these starts will write: no journal has them yet. */
export class Reservations {
  readonly #taken = new Set<string>();

  /** Its places are free again when it is disposed of. */
  open(): Reservation {
    return new Reservation(this.#taken);
  }
}

export class Reservation implements Disposable {
  readonly #all: Set<string>;
  readonly #own: string[] = [];

  constructor(all: Set<string>) {
    this.#all = all;
  }

  /** False if another start has it. */
  take(what: string): boolean {
    if (this.#all.has(what)) return false;
    this.#all.add(what);
    this.#own.push(what);
    return true;
  }

  [Symbol.dispose](): void {
    for (const one of this.#own) this.#all.delete(one);
  }
}
