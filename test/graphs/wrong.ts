/** The service has said something wrong, has lost data, or has touched foreign files. */
export class WrongOutcome extends Error {
  override readonly name = 'WrongOutcome';
}

export function must(holds: boolean, text: string): asserts holds {
  if (!holds) throw new WrongOutcome(text);
}
