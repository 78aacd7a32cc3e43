/** Many cases of one test: all are tried, and the test reports each that failed. */
export class Cases {
  /** In words; it must stay empty. */
  readonly wrong: string[] = [];

  async try(name: string, work: () => Promise<void>): Promise<void> {
    await work().catch((error: unknown) => void this.wrong.push(`${name}: ${String(error)}`));
  }
}
