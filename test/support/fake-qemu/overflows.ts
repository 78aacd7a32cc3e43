/** Timers that were given a longer time than Node takes, of which it makes one millisecond: it warns of each. */
export class Overflows implements Disposable {
  readonly seen: string[] = [];
  readonly #take = ({ name, message }: Error) => {
    if (name === 'TimeoutOverflowWarning') this.seen.push(message);
  };

  constructor() {
    process.on('warning', this.#take);
  }

  [Symbol.dispose](): void {
    process.off('warning', this.#take);
  }
}
