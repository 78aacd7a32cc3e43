/** Waits for announced changes. */
import type { Wake } from '../../src/lib/wake.ts';

/** Checks the condition at each change until it holds; throws if it does not in time. */
export async function until(what: string, changes: Wake, done: () => boolean, ms = 25_000): Promise<void> {
  const by = performance.now() + ms;
  for (;;) {
    const looked = changes.now;
    if (done()) return;
    const leftMs = by - performance.now();
    if (leftMs <= 0) throw new Error(`${what}: not within ${ms} ms`);
    await changes.after(looked, { timeoutMs: leftMs });
  }
}
