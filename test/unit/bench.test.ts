/** The judgement of make bench: its statistics, its tables, and its comparison with docs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Figure } from '../bench/figure.ts';
import { partOf, withPart } from '../bench/page.ts';
import { type Goal, ROWS, type Row } from '../bench/rows.ts';
import { isRate, median, quantile, ratios } from '../bench/statistics.ts';
import { lackingIn, missedIn, tableOf, worseThan } from '../bench/table.ts';

describe('statistics', () => {
  test('the median is in the middle, or between the two in the middle', () => {
    expect([median([9, 1, 2]), median([4, 1, 9, 2]), median([7])]).toEqual([2, 3, 7]);
  });

  test('99 % of the values are not above their 99 %', () => {
    const hundred = Array.from({ length: 100 }, (_, at) => 100 - at);
    expect([quantile(hundred, 0.99), quantile([3, 1, 2], 0.99), quantile([5], 0.99)]).toEqual([99, 3, 5]);
  });

  test('ratios are of values of the same round', () => {
    // A slow round is slow for both.
    expect(ratios([2, 40, 6], [1, 10, 2])).toEqual([2, 4, 3]);
  });

  test('values that are not of rounds have the ratio of their medians', () => {
    expect(ratios([2, 4, 6, 8], [1, 9])).toEqual([1]);
  });

  test('a peer that used nothing gives no ratio', () => {
    expect([ratios([1], [0]), ratios([1, 6], [0, 2]), ratios([1, 2], [0])]).toEqual([[], [3], []]);
  });

  test('more is better only for a rate', () => {
    const units = ['messages a second', 'calls a second a core', 'ms', 's', 'MiB', '% of a core'];
    expect(units.filter(isRate)).toEqual(['messages a second', 'calls a second a core']);
  });
});

const load = async () => await Promise.reject(new Error('nothing is measured here'));

function rowWith(...goals: readonly Goal[]): Row {
  return { name: 'copy', page: 'performance', load, heads: ['disk', 'by'], peers: ['virsh', 'bare QMP'], goals };
}

const OURS = { what: '64 MiB', by: '`blockjob copy`', unit: 's', values: [0.3, 0.5, 0.25] } as const;
const FIGURES: readonly Figure[] = [
  OURS,
  { what: 'calls', by: 'us', unit: 'calls a second', values: [5000] },
  { what: '64 MiB', by: 'virsh', unit: 's', values: [0.6, 0.5, 0.5] },
  { what: '64 MiB', by: 'bare QMP', unit: 's', values: [0.0625, 0.1, 0.0625] },
  { what: 'calls', by: 'virsh', unit: 'calls a second', values: [1000] },
];
const TABLE = `| disk | by | median | minimum | 99 % | ratio |
|---|---|---|---|---|---|
| 64 MiB | \`blockjob copy\` | 0.30 s | 0.25 | 0.50 | 0.50 × virsh (0.50 to 1); 4.80 × bare QMP (4 to 5) |
| 64 MiB | virsh | 0.50 s | 0.50 | 0.60 |  |
| 64 MiB | bare QMP | 0.063 s | 0.063 | 0.10 |  |
| calls | us | 5,000 calls a second |  |  | 5 × virsh |
| calls | virsh | 1,000 calls a second |  |  |  |
`;

/** All values of a figure, so many times. */
function times(figure: Pick<Figure, 'what' | 'by'>, factor: number): readonly Figure[] {
  return FIGURES.map((one) =>
    one.what === figure.what && one.by === figure.by
      ? { ...one, values: one.values.map((value) => value * factor) }
      : one,
  );
}

describe('a table', () => {
  test('has a line for each figure, and the ratios of each to its peers', () => {
    expect(tableOf(rowWith(), FIGURES)).toBe(TABLE);
  });

  test('has the figures of one comparison together', () => {
    const [ours, , ...more] = FIGURES;
    const memory = { what: '64 MiB', by: 'virsh', unit: 'MiB', values: [7] };
    const others = [ours, { ...OURS, unit: 'MiB' }, ...more, memory].filter((one) => one !== undefined);
    const lines = tableOf(rowWith(), others).split('\n').slice(2, -1);
    const told = lines.map((line) =>
      line
        .split(' | ')
        .slice(1, 3)
        .join(': ')
        .replace(/[\d.,]+ /, ''),
    );
    expect(told.slice(0, 5)).toEqual([
      '`blockjob copy`: s',
      'virsh: s',
      'bare QMP: s',
      '`blockjob copy`: MiB',
      'virsh: MiB',
    ]);
  });

  test('has no column that is empty', () => {
    const alone = [{ what: 'VMs', by: 'both', unit: '', values: [1234] }];
    expect(tableOf(rowWith(), alone)).toBe('| disk | by | median |\n|---|---|---|\n| VMs | both | 1,234 |\n');
  });

  test('shows the goals, and the ones that are missed', () => {
    const { what, by, unit } = OURS;
    const goal = { what, by, unit, median: 0.25, most: 0.6, ratios: { virsh: 0.5, 'bare QMP': 4 } };
    const rate = { what: 'calls', by: 'us', unit: 'calls a second', median: 7000, ratios: { virsh: 4 } };
    const [, , copies = '', , , calls = ''] = tableOf(rowWith(goal, rate), FIGURES).split('\n');
    expect(copies).toMatch(/ \| ≤ 0\.25 s \(missed\); 99 % ≤ 0\.60 s; ≤ 0\.50 × virsh; ≤ 4 × bare QMP \(missed\) \|$/);
    expect(calls).toMatch(/ \| ≥ 7,000 calls a second \(missed\); ≥ 4 × virsh \|$/);
    expect(missedIn(rowWith(goal, rate), FIGURES)).toEqual([
      '64 MiB, `blockjob copy`: the goal ≤ 0.25 s is missed',
      '64 MiB, `blockjob copy`: the goal ≤ 4 × bare QMP is missed',
      'calls, us: the goal ≥ 7,000 calls a second is missed',
    ]);
  });
});

test('a row lacks the peers and the goals that nothing is measured for', () => {
  const { what, by, unit } = OURS;
  const goals = [
    { what, by, unit, ratios: { virsh: 1, 'bare QMP': 1 } },
    { what, by, unit: 'ms', median: 1 },
    { what: 'calls', by: 'us', unit: 'calls a second', ratios: { 'bare QMP': 1 } },
  ];
  expect(lackingIn(rowWith(...goals.slice(0, 1)), FIGURES)).toEqual([]);
  expect(lackingIn({ ...rowWith(...goals), peers: ['virsh', 'bare QMP', 'grpc-js'] }, FIGURES)).toEqual([
    'nothing is measured of grpc-js',
    'nothing is measured for the goal of 64 MiB, `blockjob copy`, ms',
    'nothing is measured for the goal of calls, us, calls a second',
  ]);
});

describe('the comparison with the table in docs', () => {
  test('finds nothing in the same figures', () => {
    expect(worseThan(TABLE, rowWith(), FIGURES)).toEqual([]);
  });

  test.each([
    [1.3, []],
    [
      1.4,
      [
        '64 MiB, `blockjob copy`: 0.70 × virsh; in docs it is 0.50 ×',
        '64 MiB, `blockjob copy`: 6.72 × bare QMP; in docs it is 4.80 ×',
      ],
    ],
    [0.1, []],
  ])('finds a time that is %d times as long, if that is more than a third', (factor, found) => {
    expect(worseThan(TABLE, rowWith(), times(OURS, factor))).toEqual(found);
  });

  test.each([
    [0.8, []],
    [0.7, ['calls, us: 3.50 × virsh; in docs it is 5 ×']],
    [10, []],
  ])('finds a rate that is %d times as high, if that is less by as much', (factor, found) => {
    expect(worseThan(TABLE, rowWith(), times({ what: 'calls', by: 'us' }, factor))).toEqual(found);
  });

  test('does not find a machine that is slower for all', () => {
    const slower = FIGURES.map((one) => ({
      ...one,
      values: one.values.map((value) => (isRate(one.unit) ? value / 5 : value * 5)),
    }));
    expect(worseThan(TABLE, rowWith(), slower)).toEqual([]);
  });

  test('does not judge peers', () => {
    expect(worseThan(TABLE, rowWith(), times({ what: '64 MiB', by: 'bare QMP' }, 10))).toEqual([]);
  });

  test('reads a large ratio, a table with goals, and one of a single round', () => {
    const { what, by, unit } = OURS;
    const goals = { what, by, unit, median: 1, ratios: { virsh: 2000 } };
    const large = [
      { ...OURS, values: [1234] },
      { ...OURS, by: 'virsh', values: [1] },
    ];
    const table = tableOf(rowWith(goals), large);
    expect(table).toContain('| 1,234 × virsh |');
    const larger = [{ ...OURS, values: [1700] }, ...large.slice(1)];
    expect(worseThan(table, rowWith(goals), large)).toEqual([]);
    expect(worseThan(table, rowWith(goals), larger)).toHaveLength(1);
  });

  test('has nothing to say of a figure that is new', () => {
    expect(worseThan('', rowWith(), FIGURES)).toEqual([]);
  });
});

const PAGE = 'A\n<!-- bench: copy -->\nold $&\n<!-- end of bench: copy -->\nB\n';

describe('a page of docs with tables', () => {
  test('gets another text between the marks of a row, and stays otherwise', () => {
    expect(partOf(PAGE, 'copy')).toBe('old $&\n');
    expect(withPart(PAGE, 'copy', 'new $&\n')).toBe(PAGE.replace('old', 'new'));
  });

  test.each(['', PAGE + PAGE, PAGE.replace('<!-- end', '<!--'), PAGE.replace('copy', 'deep')])(
    'is refused if the marks of a row are not there once',
    (page) => {
      expect(() => withPart(page, 'copy', '')).toThrow('the page needs <!-- bench: copy -->');
    },
  );

  test.each(['performance', 'scale'] as const)('%s.md has a table for each of its rows, in their order', (name) => {
    const page = readFileSync(join(import.meta.dirname, `../../docs/${name}.md`), 'utf8');
    const rows = ROWS.filter((row) => row.page === name);
    const marked = [...page.matchAll(/^<!-- bench: (\S+) -->$/gm)].map(([, mark]) => mark);
    expect(marked).toEqual([...(name === 'performance' ? ['machine'] : []), ...rows.map((row) => row.name)]);
    for (const row of rows) expect(partOf(page, row.name)).toContain(`| ${row.heads.join(' | ')} | median |`);
  });
});
