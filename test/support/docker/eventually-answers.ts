/** The first result of a look, in time. For changes that are announced by no event. */
import { setTimeout } from 'node:timers/promises';

const AGAIN_MS = 100;

/** `look` returns undefined, or rejects, until it finds the result. */
export async function eventuallyAnswers<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    let last: unknown;
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last });
    await setTimeout(AGAIN_MS);
  }
}
