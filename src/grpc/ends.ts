/**
 * The end of a call as one signal: its caller has left, or the server ends. A signal that is composed of others is
 * larger than the rest of a watch.
 */
interface Leaving {
  once(event: 'cancelled', listener: () => void): unknown;
}

/** The open calls, by the signal that ends them all. */
const OPEN = new WeakMap<AbortSignal, Set<AbortController>>();

export function endOf(call: Leaving, serverEnds: AbortSignal): AbortSignal {
  const controller = new AbortController();
  if (serverEnds.aborted) controller.abort(serverEnds.reason);
  const open = openUntil(serverEnds).add(controller);
  // Comes when the caller has gone, at its deadline, and at the normal end, too; then nobody listens any more.
  call.once('cancelled', () => {
    open.delete(controller);
    controller.abort();
  });
  return controller.signal;
}

function openUntil(serverEnds: AbortSignal): Set<AbortController> {
  const known = OPEN.get(serverEnds);
  if (known !== undefined) return known;
  const open = new Set<AbortController>();
  OPEN.set(serverEnds, open);
  serverEnds.addEventListener('abort', () => {
    for (const controller of open) controller.abort(serverEnds.reason);
  });
  return open;
}
