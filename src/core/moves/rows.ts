/** A decision table that runs: the first of its rows that fits decides. */
export interface Row<S, M> {
  /** The states of job and QEMU, in words. */
  readonly job: string;
  readonly qemu: string;
  /** The action of the service, in words. */
  readonly does: string;
  /** The move; undefined or false if the row does not fit. */
  readonly when: (situation: S) => M | false | undefined;
}

/** The written form of a row: `job | qemu | does`, and its condition. */
export type Written<S, M> = Readonly<Record<`${string} | ${string} | ${string}`, Row<S, M>['when']>>;

export function inOrder<S, M>(written: Written<S, M>): readonly Row<S, M>[] {
  return Object.entries(written).map(([words, when]) => {
    const [job = '', qemu = '', does = ''] = words.split(' | ');
    return { job, qemu, does, when };
  });
}

/** The first row that fits, and its move. */
export function firstOf<S, M>(rows: readonly Row<S, M>[], situation: S) {
  for (const row of rows) {
    const move = row.when(situation);
    if (move !== undefined && move !== false) return { row, move };
  }
  return undefined;
}
