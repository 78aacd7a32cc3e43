/** A registry of our own, and constructors for its meters: all begin with blockjob_, and have few label values. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** They count things, and say that they count up. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

export class Meters {
  readonly registry = new Registry();
  readonly #looks: (() => Promise<void> | void)[] = [];
  #answer: Promise<string> | undefined;

  /** Those of any process: its CPU, memory, open files, event loop and garbage. */
  addProcess(): void {
    collectDefaultMetrics({ register: this.registry });
    for (const name of MISNAMED) this.registry.removeSingleMetric(name);
  }

  counter<Label extends string = never>(name: string, help: string, labels: readonly Label[] = []): Counter<Label> {
    return new Counter(this.#configuration(name, help, labels));
  }

  gauge<Label extends string = never>(name: string, help: string, labels: readonly Label[] = []): Gauge<Label> {
    return new Gauge(this.#configuration(name, help, labels));
  }

  histogram<Label extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    labels: readonly Label[] = [],
  ): Histogram<Label> {
    return new Histogram({ ...this.#configuration(name, help, labels), buckets: [...buckets] });
  }

  /** Done before each answer: the present state is determined only on request. */
  beforeEach(look: () => Promise<void> | void): void {
    this.#looks.push(look);
  }

  /** All of them, in the text format of Prometheus. Concurrent requests get the same answer. */
  async text(): Promise<string> {
    this.#answer ??= this.#lookAndTell();
    return await this.#answer;
  }

  async #lookAndTell(): Promise<string> {
    try {
      await Promise.all(this.#looks.map(async (look) => await look()));
      return await this.registry.metrics();
    } finally {
      this.#answer = undefined;
    }
  }

  /** `name`: its unit comes last. */
  #configuration<Label extends string>(name: string, help: string, labelNames: readonly Label[]) {
    return { name: `blockjob_${name}`, help, labelNames, registers: [this.registry] };
  }
}

/** Seconds from the first to the last, each about three times the one before. */
export function secondsFrom(first: number, last: number): readonly number[] {
  const all = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 14_400, 86_400];
  return all.filter((one) => one >= first && one <= last);
}

/** Every value that a label may have: a missing one does not compile. */
export function each<Name extends string>(names: Readonly<Record<Name, true>>): readonly Name[] {
  const all: Name[] = [];
  for (const name in names) all.push(name);
  return all;
}
