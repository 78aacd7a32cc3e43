/** Optional parts of the service: they do not prevent its jobs, unless the operator has asked for them. */
import type { Logger } from 'pino';
import type { Sideline } from '../config/config.ts';

/** Undefined if it could not be opened and is optional; the log says why. Rejects if it was requested. */
export async function beside<T>({ isAsked }: Sideline, open: () => Promise<T>, log: Logger): Promise<T | undefined> {
  try {
    return await open();
  } catch (error) {
    if (isAsked) throw error;
    log.warn(`An optional part is left out: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
