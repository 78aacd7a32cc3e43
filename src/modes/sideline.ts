/** What the service can do without: it keeps nobody from their jobs, unless somebody has asked for it. */
import type { Logger } from 'pino';
import type { Sideline } from '../config/config.ts';

/** Undefined: it could not be opened, and is not missed; the log says why. Rejects where it is. */
export async function beside<T>({ isAsked }: Sideline, open: () => Promise<T>, log: Logger): Promise<T | undefined> {
  try {
    return await open();
  } catch (error) {
    if (isAsked) throw error;
    log.error(`goes on without what nobody asked for: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
