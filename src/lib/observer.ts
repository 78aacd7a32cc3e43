/** Hooks for metrics and traces. The parts do not know the observers, which change neither the work nor its result. */

export type Doing =
  /** A call of the contract is answered. `header` reads the caller's metadata. */
  | {
      readonly does: 'serve';
      readonly rpc: string;
      readonly isStream: boolean;
      readonly header: (name: string) => string | undefined;
    }
  /** A call of the contract is made to another host. `setHeader` adds metadata. */
  | {
      readonly does: 'ask';
      readonly rpc: string;
      readonly host: string;
      readonly isStream: boolean;
      readonly setHeader: (name: string, value: string) => void;
    }
  /** A step of a job's plan, or of its clean-up. */
  | { readonly does: 'step'; readonly step: string; readonly job: string }
  /** A command is in QEMU, or waits for its turn. */
  | { readonly does: 'qmp'; readonly command: string; readonly domain: string }
  /** An entry of a journal goes to stable storage. */
  | { readonly does: 'sync' }
  /** A job is driven, long after the answer to the call that began it. */
  | { readonly does: 'look-after' };

export interface Observer {
  /** Does the work, which has begun when this returns. Returns its result; never rejects with anything else. */
  during<T>(doing: Doing, work: () => Promise<T>): Promise<T>;
}

/** No observers. */
export const NOBODY: Observer = {
  during: (_doing, work) => work(),
};

/** An observer may be wrong: the work is done once nevertheless, with its own result. */
export function harmless(observer: Observer, complain: (error: unknown) => void): Observer {
  return {
    async during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
      let running: Promise<T> | undefined;
      const once = () => (running ??= work());
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

/** Both observers, one around the other. A stream is observed for hours, so nothing here waits beside it. */
export function bothObservers(outer: Observer, inner: Observer): Observer {
  if (outer === NOBODY) return inner;
  return {
    during: (doing, work) => outer.during(doing, () => inner.during(doing, work)),
  };
}
