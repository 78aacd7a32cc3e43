/** The present numbers of this host, determined at each request. */
import type { HostFigures } from '../../core/figures.ts';
import { inTime } from '../../lib/timer.ts';
import type { JobTable } from '../job/job-table.ts';
import type { Progresses } from '../job/progresses.ts';
import type { SpaceWatch } from '../job/space-watch.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import type { JobViews } from './job-views.ts';
import type { Leftovers } from './leftovers.ts';

export interface FiguresOptions {
  readonly machines: VirtualMachines;
  readonly jobs: JobTable;
  readonly views: JobViews;
  readonly progresses: Progresses;
  readonly leftovers: Leftovers;
  readonly watches: { readonly watchers: number };
  readonly space: Pick<SpaceWatch, 'leastFreeBytes'>;
}

/** The search for leftovers asks every QEMU for its whole graph. */
const LEFTOVERS_LAST_MS = 60_000;
/** The scraper has a time-out, and older numbers are better than none. */
const LEFTOVERS_FOUND_MS = 3000;

export class Figures {
  readonly #options: FiguresOptions;
  #leftovers: HostFigures['leftovers'] = [];
  #lookedAt = -Infinity;

  constructor(options: FiguresOptions) {
    this.#options = options;
  }

  async now(): Promise<HostFigures> {
    const { machines, jobs, views, progresses, watches, space } = this.#options;
    const active = jobs.known.active;
    const [now, others] = await Promise.all([views.now(active), jobs.others(), this.#lookForLeftovers()]);
    const domains = machines.domains;
    const up = domains.filter(({ identity }) => identity !== undefined).length;
    return {
      jobs: now.map(
        ({ job: { accepted, state, pauseReason, pivotGate, guestThrottle, space: room }, progress }, at) => ({
          kind: accepted.kind,
          state,
          pauseReason,
          space: room?.level,
          readyForMs: active[at]?.readyForMs,
          slowsGuest: guestThrottle !== undefined,
          waitsForRecord: pivotGate !== undefined && pivotGate.recordTime === undefined,
          progress,
        }),
      ),
      copiedBytes: progresses.copiedBytes,
      links: { up, down: domains.length - up },
      reconnects: machines.reconnects,
      watchers: watches.watchers,
      leastFreeBytes: space.leastFreeBytes,
      strayFiles: others.length,
      leftovers: this.#leftovers,
    };
  }

  async #lookForLeftovers(): Promise<void> {
    if (performance.now() - this.#lookedAt < LEFTOVERS_LAST_MS) return;
    this.#lookedAt = performance.now();
    const found = await inTime(this.#options.leftovers.all(), LEFTOVERS_FOUND_MS);
    this.#leftovers = found?.map(({ kind }) => kind) ?? this.#leftovers;
  }
}
