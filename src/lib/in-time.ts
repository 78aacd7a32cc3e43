/** Waiting no longer than is worth it. */
import { Timer } from './timer.ts';

/** The value; undefined if it does not come in time, or fails: for optional information. */
export async function inTime<T>(value: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  using _timer = new Timer(() => late.resolve(undefined), timeoutMs);
  return await Promise.race([value.catch(() => undefined), late.promise]);
}
