/** A gateway's view of its fleet, and an agent's standing in it. */

import { NOT_OURS, type Reason } from '../core/catalogue.ts';
import { BlockJobError } from '../core/errors.ts';
import type { FleetFigures } from '../core/figures.ts';
import type { Meters } from './meters.ts';

const REFUSALS = ['NOT_OWNER', 'DIRECTORY_UNREACHABLE'] as const;
const ARE_NOT_OURS: ReadonlySet<Reason> = new Set(NOT_OURS);

export function addDirectory(meters: Meters, isLive: () => boolean): void {
  const up = meters.gauge(
    'directory_up',
    'For a gateway: whether its view of the fleet is current. For an agent: whether it is in the directory.',
  );
  meters.beforeEach(() => up.set(isLive() ? 1 : 0));
}

/** `look` is called before each answer. */
export function addFleet(meters: Meters, look: () => FleetFigures): void {
  const hosts = meters.gauge(
    'hosts',
    'Hosts: reachable, unreachable at the last call, or missing (the host owns domains, and its agent is not in the directory).',
    ['state'],
  );
  const watchers = meters.gauge('watchers', 'Watchers of jobs here.');
  const upstream = meters.gauge('upstream_watches', 'Streams from agents that the watchers here share.');
  meters.beforeEach(() => {
    const now = look();
    for (const state of ['reachable', 'unreachable', 'missing'] as const) hosts.set({ state }, now[state]);
    watchers.set(now.watchers);
    upstream.set(now.upstreamWatches);
  });
}

/** Changes that an agent refused because the domain is not its own, or because that could not be determined. */
export class OwnershipMeters {
  readonly #refusals;

  constructor(meters: Meters) {
    this.#refusals = meters.counter(
      'ownership_refusals_total',
      'Changes refused because this host does not own the domain (NOT_OWNER), or the owner is unknown (DIRECTORY_UNREACHABLE).',
      ['reason'],
    );
    for (const reason of REFUSALS) this.#refusals.inc({ reason }, 0);
  }

  /** Counts the refusal, if the question ends in one. */
  async asking<T>(question: Promise<T>): Promise<T> {
    try {
      return await question;
    } catch (error) {
      if (error instanceof BlockJobError) {
        const counted = ARE_NOT_OURS.has(error.reason) ? 'NOT_OWNER' : error.reason;
        if (REFUSALS.some((one) => one === counted)) this.#refusals.inc({ reason: counted });
      }
      throw error;
    }
  }
}
