/** Waits for all of them, also after one has failed, so that nothing of them is still under way. Rejects with the first error. */
export async function allDone(...works: readonly Promise<unknown>[]): Promise<void> {
  for (const one of await Promise.allSettled(works)) if (one.status === 'rejected') throw one.reason;
}
