/**
 * A stream whose source pushes: nothing is allocated for a value that is taken at once. It can also be read with
 * `for await`, one value at a time.
 */

/** Takes a value. Returns a promise if no other one may come before that resolves. Its error ends the stream. */
export type Take<Value> = (value: Value) => Promise<void> | undefined;

export class Pushed<Value> implements AsyncIterable<Value> {
  readonly #source: (take: Take<Value>) => Promise<void>;

  /** `source` is called for each reading. Its promise ends the stream, or fails it. */
  constructor(source: (take: Take<Value>) => Promise<void>) {
    this.#source = source;
  }

  /** Resolves after the last value. */
  to(take: Take<Value>): Promise<void> {
    return this.#source(take);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Value, void, undefined> {
    const waiting: Value[] = [];
    let [told, taken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isOver = false;
    const running = this.to((value) => {
      waiting.push(value);
      told.resolve();
      return taken.promise;
    });
    const over = running
      .catch(() => undefined)
      .then(() => {
        isOver = true;
        told.resolve();
      });
    try {
      for (;;) {
        await told.promise;
        const [value] = waiting.splice(0);
        if (value === undefined) {
          await running;
          return;
        }
        yield value;
        if (!isOver) told = Promise.withResolvers<void>();
        const before = taken;
        taken = Promise.withResolvers<void>();
        before.resolve();
      }
    } finally {
      // The source waits for a reader that has left, or has ended.
      taken.promise.catch(() => undefined);
      taken.reject(new Error('nobody reads any more'));
      await over;
    }
  }
}

/** Pushes all values of a stream, whatever it is made of. */
export function eachOf<Value>(stream: AsyncIterable<Value>, take: Take<Value>): Promise<void> {
  return stream instanceof Pushed ? (stream as Pushed<Value>).to(take) : pullAll(stream, take);
}

async function pullAll<Value>(stream: AsyncIterable<Value>, take: Take<Value>): Promise<void> {
  for await (const value of stream) {
    const full = take(value);
    if (full !== undefined) await full;
  }
}
