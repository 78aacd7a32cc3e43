/** Live plots in the elements that views leave for them: `data-plot` names the value and the job. */
import uPlot from 'uplot';
import type { History, Sample } from './history.ts';
import { bytes, clock, rate } from './words.ts';

type What = 'small' | 'speed' | 'left';

interface Series {
  readonly label: string;
  readonly of: (sample: Sample) => number;
  /** A custom property of the style sheet. */
  readonly colour: string;
  readonly dash?: number[];
  readonly isFilled?: true;
}

const COPIED: Series = { label: 'Copied', of: (one) => one.bytesPerSecond, colour: '--accent', isFilled: true };
const WRITTEN: Series = {
  label: 'Guest writes',
  of: (one) => one.dirtyBytesPerSecond,
  colour: '--second',
  dash: [6, 4],
};
const LEFT: Series = { label: 'Remaining', of: (one) => one.remainingBytes, colour: '--accent', isFilled: true };

const KINDS: Readonly<Record<What, { readonly series: readonly Series[]; readonly unit: (value: number) => string }>> =
  {
    small: { series: [{ ...COPIED, label: '' }], unit: rate },
    speed: { series: [COPIED, WRITTEN], unit: rate },
    left: { series: [LEFT], unit: bytes },
  };
/** The shortest time axis, so that a line moves instead of being squeezed. */
const LEAST_SECONDS = 60;
const SMALL_SECONDS = 60;

export class Plots {
  readonly #history: History;
  readonly #plots = new Map<Element, uPlot>();

  constructor(history: History) {
    this.#history = history;
    const restart = () => {
      for (const plot of this.#plots.values()) plot.destroy();
      this.#plots.clear();
      this.draw();
    };
    // Colours and width are read once per plot.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', restart);
    addEventListener('resize', restart);
  }

  /** Draws the plots that have an element, and forgets the others. */
  draw(): void {
    for (const [room, plot] of this.#plots) {
      if (room.isConnected) continue;
      plot.destroy();
      this.#plots.delete(room);
    }
    for (const room of document.querySelectorAll<HTMLElement>('[data-plot]')) {
      const what = (room.dataset['plot'] ?? 'small') as What;
      const data = this.#dataOf(what, room.dataset['job'] ?? '');
      const plot = this.#plots.get(room);
      if (plot === undefined) this.#plots.set(room, new uPlot(optionsOf(what, room), data, room));
      else plot.setData(data);
    }
  }

  #dataOf(what: What, jobId: string): uPlot.AlignedData {
    const all = this.#history.of(jobId);
    const since = (all.at(-1)?.time ?? 0) - SMALL_SECONDS;
    const samples = what === 'small' ? all.filter(({ time }) => time >= since) : all;
    return [samples.map(({ time }) => time), ...KINDS[what].series.map(({ of }) => samples.map(of))];
  }
}

function optionsOf(what: What, room: HTMLElement): uPlot.Options {
  const style = getComputedStyle(room);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const { series, unit } = KINDS[what];
  const isSmall = what === 'small';
  const grid = { stroke: colour('--line'), width: 1 };
  const axis: uPlot.Axis = { stroke: colour('--muted'), font: '12px system-ui, sans-serif', grid, ticks: grid };
  const dash = (_plot: uPlot, index: number) => (series[index - 1]?.dash === undefined ? 'solid' : 'dashed');
  const legend: uPlot.Legend = { show: !isSmall, markers: { width: 2, dash } };
  return {
    width: room.clientWidth,
    height: isSmall ? 28 : 180,
    padding: isSmall ? [3, 0, 0, 0] : [10, 30, 0, 0],
    legend,
    cursor: { show: !isSmall, drag: { setScale: false }, points: { size: 7 } },
    scales: {
      x: { range: (_plot, from, to) => [Math.min(from, to - LEAST_SECONDS), to] },
      y: { range: (_plot, _least, most) => [0, Math.max(most, 1) * 1.08] },
    },
    axes: isSmall
      ? [{ show: false }, { show: false }]
      : [
          { ...axis, size: 28, values: '{HH}:{mm}:{ss}', space: 90 },
          {
            ...axis,
            size: 86,
            space: 34,
            incrs: binarySteps(),
            values: (_plot, ticks) => ticks.map((tick) => unit(tick).replace(/\.0+ /, ' ')),
          },
        ],
    series: [
      {
        label: 'At',
        value: (plot, time: number | null) => clock(new Date(at(plot, time, 0) * 1000)),
      },
      ...series.map(
        (one): uPlot.Series => ({
          label: one.label,
          stroke: colour(one.colour),
          width: isSmall ? 1.5 : 2,
          ...(one.dash === undefined ? {} : { dash: one.dash }),
          ...(one.isFilled === undefined ? {} : { fill: colour('--fill') }),
          points: { show: false },
          value: (plot, value: number | null, index: number) => unit(at(plot, value, index)),
        }),
      ),
    ],
  };
}

/** The pointer's position, or now. */
function at(plot: uPlot, value: number | null, index: number): number {
  return value ?? plot.data[index]?.at(-1) ?? 0;
}

/** Ticks at whole numbers of binary units. */
function binarySteps(): number[] {
  return Array.from({ length: 50 }, (_, power) => 2 ** power);
}
