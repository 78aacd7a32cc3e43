import { expect, it } from 'vitest';
import { Listeners } from '../../../src/qmp/listeners.ts';

interface News {
  readonly n: number;
}

it('a listener that throws does not keep the news from the others', () => {
  const thrown: unknown[] = [];
  const heard: number[] = [];
  const listeners = new Listeners<News>((error) => thrown.push(error));
  listeners.add(() => {
    throw new Error('broken');
  });
  listeners.add(({ n }) => heard.push(n));
  listeners.emit({ n: 1 });
  listeners.emit({ n: 2 });
  expect(heard).toEqual([1, 2]);
  expect(thrown).toEqual([new Error('broken'), new Error('broken')]);
});

it('news from within a listener reaches every listener after the present news', () => {
  const heard: number[] = [];
  const listeners = new Listeners<News>(() => {});
  listeners.add(({ n }) => {
    if (n === 1) listeners.emit({ n: 2 });
  });
  listeners.add(({ n }) => heard.push(n));
  listeners.emit({ n: 1 });
  expect(heard).toEqual([1, 2]);
});

it('a listener that was disposed of hears nothing more, even in the middle of a delivery', () => {
  const heard: string[] = [];
  const listeners = new Listeners<News>(() => {});
  listeners.add(() => second[Symbol.dispose]());
  const second = listeners.add(() => heard.push('second'));
  const third = listeners.add(() => heard.push('third'));
  listeners.emit({ n: 1 });
  third[Symbol.dispose]();
  third[Symbol.dispose]();
  listeners.emit({ n: 2 });
  expect(heard).toEqual(['third']);
});

it('a listener that is added in the middle of a delivery hears from the next news on', () => {
  const heard: number[] = [];
  const listeners = new Listeners<News>(() => {});
  const first = listeners.add(() => {
    first[Symbol.dispose]();
    listeners.add(({ n }) => heard.push(n));
  });
  listeners.emit({ n: 1 });
  listeners.emit({ n: 2 });
  expect(heard).toEqual([2]);
});

it('the same function subscribed twice is called twice, and each subscription ends alone', () => {
  const heard: number[] = [];
  const listener = ({ n }: News) => void heard.push(n);
  const listeners = new Listeners<News>(() => {});
  const once = listeners.add(listener);
  listeners.add(listener);
  listeners.emit({ n: 1 });
  once[Symbol.dispose]();
  listeners.emit({ n: 2 });
  expect(heard).toEqual([1, 1, 2]);
});
