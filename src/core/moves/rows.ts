/** A table of decisions that runs: of its rows, in their order, the first that fits decides. */
export interface Row<S, M> {
  /** In words: the job is so, and QEMU is so. */
  readonly job: string;
  readonly qemu: string;
  /** What the service does then, in words. */
  readonly does: string;
  /** The move; undefined or false where the row does not fit. */
  readonly when: (situation: S) => M | false | undefined;
}

/** As they are written: `job | qemu | does`, and when. */
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
