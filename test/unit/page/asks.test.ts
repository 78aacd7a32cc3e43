/** How often the page asks for facts that are in no stream. */
import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Asks } from '../../../page/asks.ts';

describe('a fact that is in no stream', () => {
  let asked: string[];
  let mayAsk: boolean;
  let failure: Error | undefined;
  let asks: Asks<'ended' | 'leftovers'>;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['performance', 'Date', 'setTimeout', 'clearTimeout'] });
    asked = [];
    mayAsk = true;
    failure = undefined;
    const ask = (what: string) => async () => {
      asked.push(what);
      if (failure !== undefined) throw failure;
      await Promise.resolve();
    };
    const how = { ended: ask('ended'), leftovers: ask('leftovers') };
    asks = new Asks(how, { seldom: ['leftovers'], mayAsk: () => mayAsk, changed: () => undefined });
    void asks.run();
    await vi.advanceTimersByTimeAsync(0);
  });
  afterEach(() => vi.useRealTimers());

  const since = async (ms: number) => {
    asked = [];
    await vi.advanceTimersByTimeAsync(ms);
    return asked;
  };

  test('is asked for at the begin, and then every 15 seconds', async () => {
    expect(asked).toEqual(['leftovers']);
    expect(asks.isAnswered).toBe(true);
    expect(await since(14_999)).toEqual([]);
    expect(await since(1)).toEqual(['leftovers']);
  });

  test('is asked for at most every two seconds, however many events there are, and seldom facts keep their interval', async () => {
    for (let times = 0; times < 300; times += 1) {
      asks.soon('ended');
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(asked.filter((what) => what === 'ended')).toHaveLength(15);
    expect(asked.filter((what) => what === 'leftovers')).toHaveLength(3);
  });

  test('is asked for at once if a person opens it', async () => {
    asks.now('ended');
    expect(await since(0)).toEqual(['ended']);
  });

  test('is not asked for while the stream is lost, but at once when it is resumed', async () => {
    mayAsk = false;
    asks.now('ended');
    expect(await since(60_000)).toEqual([]);
    mayAsk = true;
    asks.now('ended');
    expect(await since(0)).toEqual(['ended', 'leftovers']);
  });

  test('is outdated if there is no answer, and asked for again after five seconds', async () => {
    const before = new Date();
    failure = new ConnectError('BUG: 17', Code.Internal);
    await vi.advanceTimersByTimeAsync(2000);
    asks.soon('ended');
    expect(await since(4999)).toEqual(['ended']);
    expect(asks.outdated).toEqual({ since: before, why: 'it does not answer' });
    failure = undefined;
    expect(await since(1)).toEqual(['ended']);
    expect(asks.outdated).toBeUndefined();
  });
});
