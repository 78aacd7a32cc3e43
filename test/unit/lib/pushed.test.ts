import { describe, expect, it } from 'vitest';
import { eachOf, Pushed, type Take } from '../../../src/lib/pushed.ts';

/** Pushes 1, 2, 3. `ends` hears of its end. */
function three(ends: (why?: unknown) => void = () => undefined, fails?: Error): Pushed<number> {
  return new Pushed(async (take) => {
    try {
      for (const value of [1, 2, 3]) await take(value);
      if (fails !== undefined) throw fails;
      ends();
    } catch (error) {
      ends(error);
      throw error;
    }
  });
}

async function read(stream: AsyncIterable<number>, most = Infinity): Promise<number[]> {
  const seen: number[] = [];
  for await (const value of stream) {
    seen.push(value);
    if (seen.length === most) break;
  }
  return seen;
}

const refuse: Take<number> = (value) => {
  if (value === 2) throw new Error('no more');
};

describe('a pushed stream', () => {
  it('gives each value once and in order, to a caller that takes them and to one that reads them', async () => {
    const taken: number[] = [];
    await three().to((value) => void taken.push(value));
    expect([taken, await read(three())]).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
  });

  it('waits for a reader before each further value', async () => {
    let pushed = 0;
    const stream = new Pushed<number>(async (take) => {
      for (pushed = 1; pushed <= 3; pushed += 1) await take(pushed);
    });
    const reading = stream[Symbol.asyncIterator]();
    expect(pushed).toBe(0);
    await reading.next();
    expect(pushed).toBe(1);
    await reading.next();
    expect(pushed).toBe(2);
    await reading.return();
  });

  it('fails with its source, after the values before', async () => {
    const seen: number[] = [];
    const reading = (async () => {
      for await (const value of three(undefined, new Error('broken'))) seen.push(value);
    })();
    await expect(reading).rejects.toThrow('broken');
    expect(seen).toEqual([1, 2, 3]);
  });

  it('ends its source when the reader leaves', async () => {
    let end: unknown;
    const stream = three((why) => {
      end = why;
    });
    expect(await read(stream, 2)).toEqual([1, 2]);
    expect(String(end)).toMatch('nobody reads any more');
  });

  it('fails with what its taker throws', async () => {
    await expect(three().to(refuse)).rejects.toThrow('no more');
  });
});

it('any stream can be pushed, and waits for its taker', async () => {
  const values = (async function* () {
    yield await Promise.resolve(1);
    yield 2;
  })();
  const seen: string[] = [];
  await eachOf(values, async (value) => {
    seen.push(`${value} comes`);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    seen.push(`${value} is taken`);
  });
  expect(seen).toEqual(['1 comes', '1 is taken', '2 comes', '2 is taken']);
});
