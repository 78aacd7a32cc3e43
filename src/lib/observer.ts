/**
 * What goes on, for whoever measures or traces it. The parts say what they do, and know nothing of who looks on: that
 * changes nothing of what is done, nor of how it ends.
 */

export type Doing =
  /** A call of the contract is answered. `header` reads what its caller sent along. */
  | {
      readonly does: 'serve';
      readonly rpc: string;
      readonly isStream: boolean;
      readonly header: (name: string) => string | undefined;
    }
  /** A call of the contract is made to another host. `setHeader` sends something along. */
  | {
      readonly does: 'ask';
      readonly rpc: string;
      readonly host: string;
      readonly isStream: boolean;
      readonly setHeader: (name: string, value: string) => void;
    }
  /** A step of a job's plan, or of its clean-up. */
  | { readonly does: 'step'; readonly step: string; readonly job: string }
  /** A command is with QEMU, or waits for its turn. */
  | { readonly does: 'qmp'; readonly command: string; readonly domain: string }
  /** An entry of a journal goes to stable storage. */
  | { readonly does: 'sync' }
  /** A job is looked after, long after the call that began it has been answered. */
  | { readonly does: 'look-after' };

export interface Observer {
  /** Does the work, which has begun when this returns. Its answer is the work's; it never rejects with anything else. */
  during<T>(doing: Doing, work: () => Promise<T>): Promise<T>;
}

/** Nobody looks on. */
export const NOBODY: Observer = {
  async during(_doing, work) {
    return await work();
  },
};

/** Whatever looks on may be at fault: the work is done once all the same, and ends as it ends. */
export function harmless(observer: Observer, complain: (error: unknown) => void): Observer {
  return {
    async during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
      let running: Promise<T> | undefined;
      const once = async () => await (running ??= work());
      try {
        return await observer.during(doing, once);
      } catch (error) {
        const [own] = await Promise.allSettled([once()]);
        if (own.status === 'fulfilled' || own.reason !== error) complain(error);
        return await once();
      }
    },
  };
}

/** Both look on, one around the other. */
export function bothObservers(outer: Observer, inner: Observer): Observer {
  return {
    async during(doing, work) {
      return await outer.during(doing, async () => await inner.during(doing, work));
    },
  };
}
