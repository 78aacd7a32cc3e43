/** The service has said what is not true, has lost something, or has touched what is not its own. */
export class WrongOutcome extends Error {
  override readonly name = 'WrongOutcome';
}

export function must(holds: boolean, text: string): asserts holds {
  if (!holds) throw new WrongOutcome(text);
}
