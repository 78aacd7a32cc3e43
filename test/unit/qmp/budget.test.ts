import { describe, expect, it } from 'vitest';
import { Budget } from '../../../src/qmp/budget.ts';

function joined(budget: Budget, names: readonly string[]) {
  const ended: string[] = [];
  const shares = Object.fromEntries(names.map((name) => [name, budget.join(() => void ended.push(name))]));
  return { ended, hold: (name: string, bytes: number) => shares[name]?.hold(bytes), shares };
}

describe('the memory that monitors may hold together', () => {
  it('leaves each its least, however many there are', () => {
    const names = Array.from({ length: 100 }, (_, at) => `${at}`);
    const { ended, hold } = joined(new Budget({ leastBytes: 10, storeBytes: 20 }), names);
    for (const name of names) hold(name, 10);
    expect(ended).toEqual([]);
  });

  it('ends the largest one, and not the one that asks', () => {
    const { ended, hold } = joined(new Budget({ leastBytes: 10, storeBytes: 20 }), ['a', 'b', 'c']);
    hold('a', 20);
    hold('b', 19);
    expect(ended).toEqual([]);
    hold('c', 15);
    expect(ended).toEqual(['a']);
    hold('c', 15);
    hold('b', 22);
    expect(ended).toEqual(['a']);
  });

  it('counts the longest message, and nothing that was released', () => {
    const { ended, hold, shares } = joined(new Budget({ leastBytes: 0, storeBytes: 20 }), ['a', 'b', 'c']);
    hold('a', 15);
    hold('a', 1);
    shares['a']?.leave();
    hold('b', 12);
    hold('b', 1);
    hold('c', 9);
    expect(ended).toEqual(['b']);
  });

  it('ends one that alone has more than all may have', () => {
    const { ended, hold } = joined(new Budget({ leastBytes: 0, storeBytes: 20 }), ['a', 'b']);
    hold('b', 5);
    hold('a', 21);
    expect(ended).toEqual(['a']);
  });
});
