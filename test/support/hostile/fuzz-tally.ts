/** The answers by RPC and by outcome: a fuzz whose requests all fail at the first check proves little. */
import type { AnyRequest, Rpc } from './any-request.ts';

export class FuzzTally {
  readonly #rows = new Map<Rpc, Map<string, number>>();
  asked = 0;
  /** Jobs that were begun. */
  begun = 0;
  /** QEMUs that were started again, because a job had moved the disk. */
  renewed = 0;
  #loggedBytes = 0;
  #loggedOf = 0;

  /** `outcome`: a reason, OK, or JOB for a start that has begun one. */
  count({ rpc }: AnyRequest, outcome: string): void {
    this.asked += 1;
    const row = this.#rows.get(rpc) ?? new Map<string, number>();
    this.#rows.set(rpc, row.set(outcome, (row.get(outcome) ?? 0) + 1));
  }

  logged(bytes: number, calls: number): void {
    this.#loggedBytes += bytes;
    this.#loggedOf += calls;
  }

  /** The log bytes of each call that begins no job. */
  get bytesLoggedEach(): number {
    return this.#loggedBytes / this.#loggedOf;
  }

  /** The requests of the RPC, and how many of them have begun a job, or succeeded. */
  of(rpc: Rpc): { readonly all: number; readonly far: number } {
    const row = this.#rows.get(rpc);
    const all = [...(row?.values() ?? [])].reduce((sum, count) => sum + count, 0);
    return { all, far: (row?.get('OK') ?? 0) + (row?.get('JOB') ?? 0) };
  }

  toString(): string {
    const lines = [...this.#rows].map(([rpc, row]) => {
      const outcomes = [...row].toSorted(([, a], [, b]) => b - a);
      return `  ${rpc}: ${outcomes.map(([outcome, count]) => `${outcome} ${count}`).join(', ')}`;
    });
    const logged = `${this.bytesLoggedEach.toFixed(1)} bytes logged each`;
    return [`${this.asked} asked, ${logged}; ${this.begun} jobs, ${this.renewed} QEMUs restarted`, ...lines].join('\n');
  }
}
