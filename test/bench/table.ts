/** The table of a row: as text, read back from docs, and compared with it. Pure. */
import type { Figure } from './figure.ts';
import type { Goal, Row } from './rows.ts';
import { isRate, median, quantile, ratios } from './statistics.ts';

/** More than this many times as bad fails. */
const WORSE = 4 / 3;

interface Ratio {
  readonly peer: string;
  readonly values: readonly number[];
}

/** Three digits where they say something: the values are noisy. */
function shown(value: number): string {
  if (Number.isInteger(value) || value >= 100) return Math.round(value).toLocaleString('en');
  if (value < 0.1) return value.toPrecision(2);
  return value.toFixed(value < 10 ? 2 : 1);
}

/** A figure of a peer has no ratios. */
function ratiosOf(row: Row, { what, by, unit, values }: Figure, figures: readonly Figure[]): readonly Ratio[] {
  if (row.peers.includes(by)) return [];
  return row.peers
    .flatMap((peer) => figures.filter((one) => one.what === what && one.by === peer && one.unit === unit))
    .map((peer) => ({ peer: peer.by, values: ratios(values, peer.values) }))
    .filter((ratio) => ratio.values.length > 0);
}

function ratioCell({ peer, values }: Ratio): string {
  const range = values.length === 1 ? '' : ` (${shown(Math.min(...values))} to ${shown(quantile(values, 0.99))})`;
  return `${shown(median(values))} × ${peer}${range}`;
}

interface Limit {
  readonly text: string;
  readonly isMissed: boolean;
}

function limitsOf(goal: Goal, { unit, values }: Figure, found: readonly Ratio[]): readonly Limit[] {
  const limit = (measured: number, limited: number | undefined, of: string, after: string): readonly Limit[] => {
    if (limited === undefined) return [];
    const text = `${of}${isRate(unit) ? '≥' : '≤'} ${shown(limited)} ${after}`;
    return [{ text, isMissed: isRate(unit) ? measured < limited : measured > limited }];
  };
  return [
    ...limit(median(values), goal.median, '', unit),
    ...limit(quantile(values, 0.99), goal.most, '99 % ', unit),
    ...found.flatMap(({ peer, values: all }) => limit(median(all), goal.ratios?.[peer], '', `× ${peer}`)),
  ];
}

function isOf(goal: Goal, { what, by, unit }: Figure): boolean {
  return goal.what === what && goal.by === by && goal.unit === unit;
}

function limitsIn(row: Row, figure: Figure, figures: readonly Figure[]): readonly Limit[] {
  const goal = row.goals.find((one) => isOf(one, figure));
  return goal === undefined ? [] : limitsOf(goal, figure, ratiosOf(row, figure, figures));
}

/** One line for each figure; those of one comparison are together. A column without any value is left out. */
export function tableOf(row: Row, figures: readonly Figure[]): string {
  const together = [...Map.groupBy(figures, ({ what, unit }) => `${what} | ${unit}`).values()].flat();
  const lines = together.map((figure) => {
    const { what, by, unit, values } = figure;
    const range = values.length === 1 ? [] : [Math.min(...values), quantile(values, 0.99)];
    const limits = limitsIn(row, figure, figures).map(({ text, isMissed }) => (isMissed ? `${text} (missed)` : text));
    return [
      what,
      by,
      `${shown(median(values))} ${unit}`.trimEnd(),
      ...(range.length === 0 ? ['', ''] : range.map(shown)),
      ratiosOf(row, figure, figures).map(ratioCell).join('; '),
      limits.join('; '),
    ];
  });
  const heads = [...row.heads, 'median', 'minimum', '99 %', 'ratio', 'goal'];
  const kept = heads.map((_, at) => lines.some((cells) => cells[at] !== ''));
  const written = [heads, heads.map(() => '---'), ...lines].map((cells) => cells.filter((_, at) => kept[at] === true));
  return written
    .map((cells) => `| ${cells.join(' | ')} |\n`)
    .join('')
    .replaceAll(' --- ', '---');
}

/** The medians of the ratios of a table, by figure and peer. */
function ratiosIn(table: string): ReadonlyMap<string, number> {
  const [heads = [], , ...lines] = table.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
  const [middle, ratio] = [heads.indexOf('median'), heads.indexOf('ratio')];
  return new Map(
    lines.flatMap((cells) => {
      const [, what = '', by = ''] = cells;
      const [, unit = ''] = /^[\d.,]+ (.*)$/.exec(cells[middle] ?? '') ?? [];
      const told = (cells[ratio] ?? '').matchAll(/([\d.,]+) × (.+?)(?: \([\d.,]+ to [\d.,]+\))?(?:; |$)/g);
      return [...told].map(
        ([, value = '', peer = '']) => [keyOf({ what, by, unit }, peer), Number(value.replaceAll(',', ''))] as const,
      );
    }),
  );
}

function keyOf({ what, by, unit }: Omit<Figure, 'values'>, peer: string): string {
  return [what, by, unit, peer].join(' | ');
}

/**
 * A sentence for each ratio that is worse than that of the table by more than a third. Only ratios are compared, because
 * all else is of the machine.
 */
export function worseThan(table: string, row: Row, figures: readonly Figure[]): readonly string[] {
  const before = ratiosIn(table);
  return figures.flatMap((figure) =>
    ratiosOf(row, figure, figures).flatMap(({ peer, values }) => {
      const [was, now] = [before.get(keyOf(figure, peer)), median(values)];
      if (was === undefined || (isRate(figure.unit) ? now * WORSE >= was : now <= was * WORSE)) return [];
      return [`${figure.what}, ${figure.by}: ${shown(now)} × ${peer}; in docs it is ${shown(was)} ×`];
    }),
  );
}

/** A sentence for each goal that is not reached. */
export function missedIn(row: Row, figures: readonly Figure[]): readonly string[] {
  return figures.flatMap((figure) =>
    limitsIn(row, figure, figures)
      .filter(({ isMissed }) => isMissed)
      .map(({ text }) => `${figure.what}, ${figure.by}: the goal ${text} is missed`),
  );
}

/** A sentence for each peer and each goal of the row that has no figure: a comparison that cannot fail. */
export function lackingIn(row: Row, figures: readonly Figure[]): readonly string[] {
  const peers = row.peers.filter((peer) => figures.every(({ by }) => by !== peer));
  const goals = row.goals.filter((goal) => {
    const figure = figures.find((one) => isOf(goal, one));
    const compared = figure === undefined ? [] : ratiosOf(row, figure, figures).map(({ peer }) => peer);
    return figure === undefined || Object.keys(goal.ratios ?? {}).some((peer) => !compared.includes(peer));
  });
  return [
    ...peers.map((peer) => `nothing is measured of ${peer}`),
    ...goals.map(({ what, by, unit }) => `nothing is measured for the goal of ${what}, ${by}, ${unit}`),
  ];
}
