/** With any observer, the work is done once, and has the same end. */
import { describe, expect, it } from 'vitest';
import { harmless, NOBODY, type Observer } from '../../../src/lib/observer.ts';

const DOING = { does: 'sync' } as const;
const FAULT = new Error('of the observer');
const FAILURE = new Error('of the work');

const FAULTY: Readonly<Record<string, Observer>> = {
  'before the work': {
    during: async () => await Promise.reject(FAULT),
  },
  'after it': {
    during: async (_doing, work) => {
      await work().catch(() => undefined);
      throw FAULT;
    },
  },
  'while it is under way': {
    during: async (_doing, work) => {
      void work().catch(() => undefined);
      return await Promise.reject(FAULT);
    },
  },
};

describe.each(Object.entries(FAULTY))('an observer that fails %s', (_when, faulty) => {
  it.each([
    ['succeeds', async () => await Promise.resolve(7), 7],
    ['fails', async () => await Promise.reject(FAILURE), FAILURE],
  ])(
    'does not keep work from being done once: it %s nevertheless, and the fault is reported',
    async (_how, work, end) => {
      const told: unknown[] = [];
      let times = 0;
      const counted = async () => {
        times += 1;
        return await work();
      };
      const observed = harmless(faulty, (error) => told.push(error)).during(DOING, counted);
      await expect(observed.catch((error: unknown) => error)).resolves.toBe(end);
      expect([times, told]).toEqual([1, [FAULT]]);
    },
  );
});

it('a failure of the work is not a fault of the observer', async () => {
  const told: unknown[] = [];
  const observed = harmless(NOBODY, (error) => told.push(error)).during(
    DOING,
    async () => await Promise.reject(FAILURE),
  );
  await expect(observed).rejects.toBe(FAILURE);
  expect(told).toEqual([]);
});
