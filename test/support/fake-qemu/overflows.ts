/** Timers with a longer time than Node supports, which it replaces by one millisecond: it warns of each. */
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
