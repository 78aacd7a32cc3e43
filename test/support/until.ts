/** Waiting for something that is announced. */
import type { Wake } from '../../src/lib/wake.ts';

/** Looks at each change until it is so; an error when it is not in time. */
export async function until(what: string, changes: Wake, done: () => boolean, ms = 10_000): Promise<void> {
  const by = performance.now() + ms;
  for (;;) {
    const looked = changes.now;
    if (done()) return;
    const leftMs = by - performance.now();
    if (leftMs <= 0) throw new Error(`${what}: not within ${ms} ms`);
    await changes.after(looked, { timeoutMs: leftMs });
  }
}
