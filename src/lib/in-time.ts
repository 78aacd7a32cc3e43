/** Waiting no longer than is worth it. */
import { Timer } from './timer.ts';

/** The value, or undefined when it is not there in time, or not to be had: for what is good to know, not needed. */
export async function inTime<T>(value: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  using _timer = new Timer(() => late.resolve(undefined), timeoutMs);
  return await Promise.race([value.catch(() => undefined), late.promise]);
}
